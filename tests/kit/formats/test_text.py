"""Lines, tables and XML in UTF-8 and UTF-16. A mistake in the quotes of a table is an error at the row where it is."""

from pathlib import Path

import pytest

from kit.formats.folders import FaultCollector
from kit.formats.text import MAX_LINE, read_lines, read_table, read_xml
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
    assert [number for number, _ in read_lines(Path("a.txt"), longest=MAX_LINE + 1)] == [1, 2]


XML = [  # the encoding that the file declares, and the one that it has
    (None, "utf-8"),
    ("utf-8", "utf-8-sig"),
    ("UTF-16", "utf-16"),
    ("utf-16", "utf-8"),  # as some programs of Windows write it
    ("ISO-8859-1", "utf-8"),
]


@pytest.mark.parametrize(("declared", "encoding"), XML)
def test_xml_is_read_in_its_encoding(declared, encoding):
    declaration = f"<?xml version='1.0' encoding='{declared}'?>\n" if declared else ""
    Path("a.xml").write_bytes(f"{declaration}<name>bär</name>".encode(encoding))
    assert read_xml(Path("a.xml"))[0].text == "bär"


BROKEN_XML = [
    ("<?xml version='1.0'?>\n<name>bär</name>".encode("cp1252"), r"a\.xml:2: not UTF-8"),
    ("<?xml version='1.0' encoding='gb2312'?>\n\n<name>b\xe4r</name>".encode("cp1252"), r"a\.xml:3: not UTF-8"),
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


ROWS = [(2, {"path": "a b.png", "label": "cat, grey"}), (3, {"path": "c.png", "label": ""})]


def rows(content: str, report: FaultCollector | None = None) -> list[tuple[int, dict[str, str]]]:
    Path("a.csv").write_bytes(content.encode())
    return list(read_table(Path("a.csv"), ("path", "label"), report or FaultCollector()))


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_ends_of_lines(separator, end):
    lines = [["path ", '"label"'], ["a b.png", '"cat, grey"'], ["c.png", " "]]
    assert rows(end.join(separator.join(cells) for cells in lines)) == ROWS


def test_short_and_blank_rows():
    assert rows("path,label,,\na b.png,'cat',\n,,,\n\nc.png\n") == [
        (2, {"path": "a b.png", "label": "'cat'", "": ""}),
        (5, {"path": "c.png", "label": "", "": ""}),
    ]


def test_rows_with_more_cells_than_the_header_are_reported():
    report = FaultCollector()
    report.faults = []
    assert rows("path,label\na.png,cat, sitting\nb.png,cat\n", report) == [(3, {"path": "b.png", "label": "cat"})]
    assert [(fault.kind, fault.line) for fault in report.faults] == [("bad-row", 2)]


BROKEN = [
    ("", "a.csv:1: the header is ''"),
    ("path;class\n", "a.csv:1: the header is 'path;class'"),
    ("path,label,label\n", "a.csv:1: the header is 'path,label,label'"),
    ('path,label\na.png,cat\nb.png,"cat\nc.png,dog\n', "a.csv:3: broken CSV"),
    ('path,label\n"a" b.png,cat\n', "a.csv:2: broken CSV"),
    (f"path,label\na.png,cat\nb.png,{'c' * 10**6}\n", "a.csv:3: broken CSV"),
]


@pytest.mark.parametrize(("content", "start"), BROKEN)
def test_broken_tables_are_one_line(content, start):
    with pytest.raises(UserError) as raised:
        rows(content)
    assert str(raised.value).startswith(start) and "\n" not in str(raised.value)
