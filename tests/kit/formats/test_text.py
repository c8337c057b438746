"""Lines and XML in any encoding that a file declares."""

from pathlib import Path

import pytest

from kit.formats.text import MAX_LINE, read_lines, read_xml
from kit.ground.errors import BrokenFiles, UserError


def test_lines_are_numbered_and_stripped():
    Path("a.txt").write_bytes(" a b \r\n\r\n\tc\n".encode("utf-16"))
    assert list(read_lines(Path("a.txt"))) == [(1, "a b"), (3, "c")]
    Path("a.txt").write_bytes("a\rb\x85c\rd\u2028e".encode())
    assert list(read_lines(Path("a.txt"))) == [(1, "a"), (2, "b\x85c"), (3, "d\u2028e")]


def test_too_long_line_is_refused():
    Path("a.txt").write_text(f"a\n{'b' * (MAX_LINE + 1)}\n")
    with pytest.raises(UserError, match=r"a\.txt:2: .*1,001"):
        list(read_lines(Path("a.txt")))
    assert [number for number, _ in read_lines(Path("a.txt"), max_chars=MAX_LINE + 1)] == [1, 2]


XML = [  # the encoding that the file declares, and the one that it has
    (None, "utf-8"),
    ("utf-8", "utf-8-sig"),
    ("UTF-16", "utf-16"),
    ("utf-16", "utf-8"),  # as some programs of Windows write it
    ("ISO-8859-1", "latin-1"),
    ("windows-1252", "cp1252"),
]


@pytest.mark.parametrize(("declared", "encoding"), XML)
def test_xml_is_read_in_its_encoding(declared, encoding):
    declaration = f"<?xml version='1.0' encoding='{declared}'?>\n" if declared else ""
    Path("a.xml").write_bytes(f"{declaration}<name>bär</name>".encode(encoding))
    assert read_xml(Path("a.xml"))[0].text == "bär"


def test_chinese_xml_is_read_in_its_encoding():
    Path("a.xml").write_bytes("<?xml version='1.0' encoding='gb2312'?><name>猫</name>".encode("gb2312"))
    assert read_xml(Path("a.xml"))[0].text == "猫"


BROKEN_XML = [
    ("<?xml version='1.0'?>\n<name>bär</name>".encode("cp1252"), r"a\.xml:2: not UTF-8"),
    ("<?xml version='1.0' encoding='gb2312'?>\n\n<name>b\xe4r</name>".encode("cp1252"), r"a\.xml:3: not GB2312"),
    (b"<?xml version='1.0' encoding='klingon'?>\n<a/>", r"a\.xml:1: unknown encoding 'klingon'"),
    (b"<?xml version='1.0' encoding='undefined'?>\n<a/>", r"a\.xml:1: unknown encoding"),
    (b"<a>\n\0</a>", r"a\.xml:2: not UTF-8"),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>".encode("utf-16"), r"a\.xml: .*entities"),
    (b"<a>\n<b></a>", r"a\.xml:2: broken XML"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN_XML)
def test_broken_xml_is_one_line(content, message):
    Path("a.xml").write_bytes(content)
    with pytest.raises(BrokenFiles, match=message) as raised:
        read_xml(Path("a.xml"))
    assert "\n" not in str(raised.value)
