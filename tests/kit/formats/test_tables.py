"""Tables with any separator. A mistake in the quotes is an error at the row where it is."""

from pathlib import Path

import pytest

from kit.formats.folders import FaultCollector
from kit.formats.label_table import read_table
from kit.ground.errors import UserError

ROWS = [(2, {"path": "a b.png", "label": "cat, grey"}), (3, {"path": "c.png", "label": ""})]


def rows(content: str, report: FaultCollector | None = None) -> list[tuple[int, dict[str, str]]]:
    Path("a.csv").write_bytes(content.encode())
    return list(read_table(Path("a.csv"), ("path", "label"), report or FaultCollector(), ("split", "group")))


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


@pytest.mark.parametrize("name", ["a.xlsx", "a.XLS", "a.ods"])
def test_spreadsheet_is_refused(name):
    Path(name).write_bytes(b"PK\3\4\x14\0\x08\0")
    with pytest.raises(UserError, match=f"{name}:1: .*in Excel: CSV UTF-8"):
        list(read_table(Path(name), ("path", "label"), FaultCollector()))


BROKEN = [
    ("", "a.csv:1: the header is ''"),
    ("path;class\n", "a.csv:1: the header is 'path;class'"),
    ("path,label,label\n", "a.csv:1: the header is 'path,label,label'"),
    ("path,label,Split\na.png,cat,val\n", "a.csv:1: the header has 'Split'; write 'split'"),
    ("path;group;label;group\n", "a.csv:1: the header has 'group;group'; write 'group', and only once"),
    ('path,label\na.png,cat\nb.png,"cat\nc.png,dog\n', "a.csv:3: broken CSV"),
    ('path,label\n"a" b.png,cat\n', "a.csv:2: broken CSV"),
    (f"path,label\na.png,cat\nb.png,{'c' * 10**6}\n", "a.csv:3: broken CSV"),
]


@pytest.mark.parametrize(("content", "start"), BROKEN)
def test_broken_tables_are_one_line(content, start):
    with pytest.raises(UserError) as raised:
        rows(content)
    assert str(raised.value).startswith(start) and "\n" not in str(raised.value)
