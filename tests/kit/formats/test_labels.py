"""Labels of images: the format is recognised, and a cell of a table may hold several labels."""

from pathlib import Path

import pytest
import torch

from kit.formats.class_folders import ClassFolders
from kit.formats.label_table import LabelTable
from kit.formats.labels import SEPARATOR, open_labels
from kit.ground.errors import UserError

ROOT = Path("root")
TABLE, FOLDERS = "path,label\na.jpg,cat\nb.jpg,dog\n", ["cat/1.jpg", "dog/2.jpg"]


def make(*files: str, **tables: str) -> None:
    for file in files:
        Path(ROOT, file).parent.mkdir(parents=True, exist_ok=True)
        Path(ROOT, file).touch()
    for name, text in tables.items():
        ROOT.mkdir(exist_ok=True)
        Path(ROOT, name.replace("__", ".")).write_text(text)


def opened(format=None, file=None, separator=SEPARATOR, group=None):
    return open_labels(ROOT, format, file, separator, group)


RECOGNISED = [  # the files, the tables, the arguments, and the source of the labels
    (FOLDERS, {}, {}, "root"),
    (["train/cat/1.jpg", "train/dog/1.jpg"], {}, {}, "root/train"),
    (["cat/1.jpg"], {}, {}, "root"),  # one class is an error of its own
    ([], {"labels__csv": TABLE}, {}, "root/labels.csv"),
    (["images/1.jpg"], {"labels__csv": TABLE}, {}, "root/labels.csv"),  # one folder is no class folder
    (["train/1.jpg", "val/2.jpg"], {"labels__csv": TABLE}, {}, "root/labels.csv"),
    (["images/train/1.jpg", "images/val/2.jpg"], {"labels__csv": TABLE}, {}, "root/labels.csv"),
    (["images/1.jpg"], {"own__tsv": TABLE.replace(",", "\t"), "sizes__csv": "a,b\n"}, {}, "root/own.tsv"),
    (["images/1.jpg"], {"labels__csv": TABLE, "fold__csv": TABLE}, {}, "root/labels.csv"),
    (["images/1.jpg"], {"labels__csv": "name,class\n"}, {}, "root/labels.csv"),  # reading it names the columns
    (["images/1.jpg"], {"labels__csv": "name,class\n", "own__csv": TABLE}, {}, "root/own.csv"),
    (FOLDERS, {"meta__csv": "name,class\n"}, {}, "root"),
    (FOLDERS, {"labels__csv": "name,class\n"}, {}, "root"),
    (FOLDERS, {"labels__csv": TABLE}, {"format": "folders"}, "root"),
    (FOLDERS, {"labels__csv": TABLE}, {"format": "table"}, "root/labels.csv"),
    (FOLDERS, {"fold__csv": TABLE, "other__csv": TABLE}, {"file": "fold.csv"}, "root/fold.csv"),
]


@pytest.mark.parametrize(("files", "tables", "arguments", "source"), RECOGNISED)
def test_format_is_recognised(files, tables, arguments, source):
    make(*files, **tables)
    reader = opened(**arguments)
    assert str(reader.source) == source
    assert isinstance(reader, LabelTable if source.endswith("sv") else ClassFolders)


REFUSED = [  # the files, the tables, the arguments, and words of the message
    (["1.jpg"], {}, {}, ["root/CLASS", "labels.csv", "path and label"]),
    (FOLDERS, {"labels__csv": TABLE}, {}, ["2 class folders", "labels.csv", "--data.format"]),
    (FOLDERS, {"a__csv": "path,label\ncat/1.jpg,0\ncat/2.jpg,1\n"}, {}, ["2 class folders", "a.csv"]),
    (FOLDERS, {"labels__csv": "name,class\n", "own__csv": TABLE}, {}, ["2 class folders", "own.csv"]),
    (FOLDERS, {"a__csv": TABLE, "b__csv": TABLE}, {}, ["2 class folders", "2 tables", "--data.format"]),
    (["1.jpg"], {"a__csv": TABLE, "b__csv": TABLE}, {}, ["a.csv", "b.csv", "--data.file"]),
    (FOLDERS, {}, {"format": "table"}, ["no table", "root/labels.csv", "--data.file"]),
    (FOLDERS, {}, {"file": "own.csv"}, ["no table", "root/own.csv"]),
    (FOLDERS, {}, {"format": "folders", "file": "own.csv"}, ["data.file", "folders"]),
    (FOLDERS, {}, {"separator": "|"}, ["data.label_separator", "folders"]),
    ([], {"labels__csv": TABLE}, {"group": "^(a)"}, ["data.group", "table"]),
]


@pytest.mark.parametrize(("files", "tables", "arguments", "words"), REFUSED)
def test_what_cannot_be_recognised_is_one_line(files, tables, arguments, words):
    make(*files, **tables)
    with pytest.raises(UserError) as raised:
        opened(**arguments)
    assert "\n" not in str(raised.value) and all(word in str(raised.value) for word in words), str(raised.value)


def test_paths_in_a_table_are_relative_to_the_root_wherever_the_table_is():
    make("images/a.jpg", "images/b.jpg", "images/c.jpg", "lists/unused.jpg")
    Path(ROOT, "lists/a.csv").write_text("path,label\nimages/a.jpg,cat\nimages/b.jpg,dog\n")
    table = opened(file="lists/a.csv")
    assert table.examples() == [ROOT / "images" / name for name in ("a.jpg", "b.jpg")]
    assert {fault.file for fault in table.unused()} == {
        str(ROOT / name) for name in ("images/c.jpg", "lists/unused.jpg")
    }


CELLS = [  # the table, the separator, the class names and the targets of train, or None for class numbers
    ("path,label\n1.jpg,a;b\n2.jpg,b\n3.jpg,\n", ";", ["a", "b"], [[1, 1], [0, 1], [0, 0]]),
    ("path,label\n1.jpg,c ; a;\n2.jpg,b;b\n", ";", ["a", "b", "c"], [[1, 0, 1], [0, 1, 0]]),
    ('path;label\n1.jpg;"a;b"\n2.jpg;b\n', ";", ["a", "b"], [[1, 1], [0, 1]]),
    ("path,label\n1.jpg,a|b\n2.jpg,c\n", "|", ["a", "b", "c"], [[1, 1, 0], [0, 0, 1]]),
    ("path,label\n1.jpg,a;b\n2.jpg,c\n", None, ["a;b", "c"], [0, 1]),
    ("path,label\n1.jpg,a\n2.jpg,c\n", ";", ["a", "c"], [0, 1]),
    ("path,label,split\n1.jpg,a,train\n2.jpg,c,train\n3.jpg,a;c,val\n", None, ["a", "c"], [0, 1]),
]


@pytest.mark.parametrize(("text", "separator", "names", "targets"), CELLS)
def test_several_labels_in_a_cell(text, separator, names, targets):
    make(labels__csv=text)
    table = opened(separator=separator)
    several = table.has_several_labels()
    assert table.names(several) == names and several == isinstance(targets[0], list)
    paths, read, groups = table.read("train", names, several)
    assert read.tolist() == targets and read.dtype == (torch.float if several else torch.long)
    assert len(paths) == len(targets) and groups is None and table.read("test", names, several) is None


def test_unknown_labels_and_missing_labels_name_the_line():
    make(labels__csv="path,label,split\n1.jpg,a;b,train\n2.jpg,b;cow,val\n3.jpg,,val\n")
    table = opened()
    with pytest.raises(UserError, match=r"labels.csv:3: training has no class 'cow'"):
        table.read("val", ["a", "b"], True)
    faults = list(table.report_fault.collect(lambda: table.read("val", ["a", "b"], True)))
    assert [(fault.kind, fault.line) for fault in faults] == [("class-unknown", 3)]
    with pytest.raises(UserError, match=r"labels.csv:3: .*'b;cow'"):
        opened().read("val", ["a;b", "cow"], False)
    with pytest.raises(UserError, match=r"labels.csv:4: a row without a label"):
        opened().read("val", ["a;b", "b;cow"], False)
