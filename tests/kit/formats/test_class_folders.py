"""Images in class folders: which folders are splits and classes, and what is refused."""

import os
from pathlib import Path

import pytest

from kit.formats.class_folders import ClassFolders
from kit.ground.errors import UserError


def make(*files: str) -> None:
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()


LAYOUTS = [  # the files in `root`, the class names, and the class number of each image of train, val and test
    (["cat/1.jpg", "dog/2.jpg", "dog/3.png"], ["cat", "dog"], ([0, 1, 1], None, None)),
    (["train/cat/1.jpg", "train/dog/2.jpg", "Valid/dog/3.jpg"], ["cat", "dog"], ([0, 1], [1], None)),
    (["animals/train/cat/1.jpg", "animals/train/dog/2.jpg", "README"], ["cat", "dog"], ([0, 1], None, None)),
    (["a/b/cat/1.jpg", "a/b/dog/2.jpg"], ["cat", "dog"], ([0, 1], None, None)),  # folders of an archive
    (["test/cat/1.jpg", "test/dog/2.jpg"], ["cat", "dog"], (None, None, [0, 1])),
    (["val/cat/1.jpg", "val/dog/1.jpg", "test/dog/2.jpg"], ["cat", "dog"], (None, [0, 1], [1])),
    (
        ["cat/1.jpg", "dog/old.jpg/x.txt", "dog/2.jpg", "@eaDir/1.jpg", "dog/Thumbs.db"],
        ["cat", "dog"],
        ([0, 1], None, None),
    ),
    (["train/caf\u00e9/1.jpg", "train/dog/2.jpg", "val/cafe\u0301 /3.jpg"], ["caf\u00e9", "dog"], ([0, 1], [0], None)),
]


@pytest.mark.parametrize(("files", "names", "targets"), LAYOUTS)
def test_layouts(files, names, targets):
    make(*(f"root/{file}" for file in files))
    found = ClassFolders(Path("root"))
    assert found.names() == names
    read = [folder and found.read(split, names)[1].tolist() for split, folder in found.splits.items()]
    assert tuple(read) == targets


def test_split_of_other_classes_is_named():
    make(
        "root/train/cat/1.jpg",
        "root/train/dog/2.jpg",
        "root/test/unknown/3.jpg",
        "root/val/cat/4.jpg",
        "root/val/cow/5.jpg",
    )
    found = ClassFolders(Path("root"))
    with pytest.raises(UserError, match=r"^root/test/unknown: training has no class 'unknown'"):
        found.read("test", found.names())
    with pytest.raises(UserError, match=r"^root/val/cow: training has no class 'cow'"):
        found.read("val", found.names())
    faults = list(found.report_fault.collect(lambda: found.read("val", found.names())))
    assert [(fault.kind, fault.file) for fault in faults] == [("class-unknown", "root/val/cow")]
    faults = found.report_fault.collect(lambda: [found.read(split, found.names()) for split in ("test", "val")])
    assert [fault.file for fault in faults] == ["root/test/unknown", "root/val/cow"]


def test_faults_before_an_error_are_kept():
    make(
        "root/train/cat/1.jpg",
        "root/train/dog/2.jpg",
        "root/val/cat/4.jpg",
        "root/val/cow/5.jpg",
        "root/test/cat/6.txt",
    )
    found = ClassFolders(Path("root"))
    faults = found.report_fault.collect(lambda: [found.read(split, found.names()) for split in ("val", "test")])
    assert next(faults).file == "root/val/cow"
    with pytest.raises(UserError, match="no images in root/test"):
        next(faults)


def test_folder_like_a_split_with_another_name_is_named():
    make("root/train/cat/1.jpg", "root/train/dog/2.jpg", "root/holdout/cat/3.jpg", "root/docs/4.jpg")
    found = ClassFolders(Path("root"))
    with pytest.warns(UserWarning, match="root/holdout: not used") as warned:
        found.warn_about_other_folders()
    assert len(warned) == 1
    assert found.splits == {"train": Path("root/train"), "val": None, "test": None}


def test_names_that_are_not_utf_8_become_text():
    for folder in (b"root/caf\xe9", b"root/dog"):
        make(f"{os.fsdecode(folder)}/1.jpg")
    found = ClassFolders(Path("root"))
    assert found.names() == ["caf\\xe9", "dog"]
    paths, targets, groups = found.read("train", found.names())
    assert (paths, targets.tolist(), groups) == (found.examples(), [0, 1], None)


def test_folders_of_one_class_name_are_joined_and_reported():
    make("root/cafe\u0301/1.jpg", "root/caf\u00e9/2.jpg", "root/dog/3.jpg")
    found = ClassFolders(Path("root"))
    assert found.names() == ["caf\u00e9", "dog"]
    assert found.read("train", found.names())[1].tolist() == [0, 0, 1]
    assert [fault.kind for fault in found.unused()] == ["class-joined"]
