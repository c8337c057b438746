"""Finding images and splits by the names of folders."""

from pathlib import Path

import pytest

from kit.formats.folders import (
    data_folder,
    files_in,
    folders,
    groups_by_name,
    images,
    paths_below,
    split_folders,
    split_in,
    split_of,
)
from kit.ground.errors import UserError

NAMES = [  # a name, what it stands for, what a word of it stands for
    ("train", "train", "train"),
    ("Valid", "val", "val"),
    ("train2017", "train", "train"),
    ("2012_test", "test", "test"),
    ("retrain", None, None),
    ("trainval", None, None),
    ("instances_val2017", None, "val"),
    ("training_notes_old", None, "train"),
    ("train_and_val", None, None),
    ("2017", None, None),
]


@pytest.mark.parametrize(("name", "alone", "within"), NAMES)
def test_split_of_a_folder_name(name, alone, within):
    assert (split_of(name), split_in(name)) == (alone, within)


FOLDERS = [  # the names of all folders, and those of train, val and test
    (["train", "val", "test"], ["train", "val", "test"]),
    (["Training", "VALIDATION"], ["Training", "VALIDATION", None]),
    (["train2017", "val2017"], ["train2017", "val2017", None]),
    (["train", "train2017", "val2017"], ["train", "val2017", None]),
    (["train", "retrain", "training_notes_old"], ["train", None, None]),
    (["retrain", "training_notes_old"], [None, None, None]),
    (["coco_train2017", "coco_val2017"], ["coco_train2017", "coco_val2017", None]),
    (["bullet_train", "test_tube", "owl"], [None, None, None]),  # classes
    (["bullet_train"], [None, None, None]),
    (["train_images", "train_masks", "val_images"], [None, None, None]),
]


@pytest.mark.parametrize(("names", "expected"), FOLDERS, ids=[" ".join(names) for names, _ in FOLDERS])
def test_folders_by_split(names, expected):
    for name in names:
        Path("root", name).mkdir(parents=True)
    by_split = split_folders(Path("root"))
    assert list(by_split) == ["train", "val", "test"]
    assert [folder and folder.name for folder in by_split.values()] == expected


@pytest.mark.parametrize("both", [("val", "validation"), ("train2014", "train2017")])
def test_two_folders_for_one_split_are_refused(both):
    for name in both:
        Path("root", name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"^root: {both[0]}/ and {both[1]}/ both stand for [^\n]*$"):
        split_folders(Path("root"))


def test_hidden_folders_are_skipped():
    for name in ("a/1.jpg", "a/.2.jpg", ".ipynb_checkpoints/3.jpg", "a/.ipynb_checkpoints/4.jpg", "__MACOSX/a/._1.jpg"):
        Path(".root", name).parent.mkdir(parents=True, exist_ok=True)
        Path(".root", name).touch()
    assert images(Path(".root")) == [Path(".root/a/1.jpg")]
    assert folders(Path(".root")) == [Path(".root/a")]


def test_root_must_be_a_folder():
    Path("a.json").touch()
    with pytest.raises(UserError, match=r"a\.json is a file; give the data's folder with --data\.root FOLDER"):
        data_folder("a.json")
    with pytest.raises(UserError, match=r"no data folder at .*nowhere"):
        data_folder("nowhere")


def test_groups_by_name():
    paths = [Path("p1_a.jpg"), Path("p2_a.jpg")]
    assert groups_by_name(paths, r"^(p\d)") == ["p1", "p2"]
    for pattern, message in (
        (r"^(p", "is not a regular expression"),
        ("p1", "finds no group"),
        ("(q)", "finds no group"),
    ):
        with pytest.raises(UserError, match=rf"data\.group '.*' {message}"):
            groups_by_name(paths, pattern)


def test_links_to_folders_are_followed_without_cycles():
    for name in ("root/a/1.jpg", "elsewhere/below/2.jpg", "root/a/@eaDir/1.jpg/THUMB.jpg", "root/a/old.jpg/3.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("root/a/more").symlink_to(Path("elsewhere").absolute())
    Path("root/a/again").symlink_to(Path("root").absolute())
    Path("root/a/4.jpg").symlink_to(Path("elsewhere/below/2.jpg").absolute())
    assert images(Path("root")) == [Path("root/a") / name for name in ("1.jpg", "4.jpg", "more/below/2.jpg")]
    assert folders(Path("root/a")) == [Path("root/a") / name for name in ("again", "more", "old.jpg")]
    Path("elsewhere/above").symlink_to("below")
    assert images(Path("elsewhere")) == [Path("elsewhere/below/2.jpg")]  # listed once


@pytest.mark.filterwarnings("ignore:.*the link is broken")
def test_links_to_themselves_are_no_folders():
    Path("root/dog").mkdir(parents=True)
    Path("root/dog/2.jpg").touch()
    Path("root/self").symlink_to("self")
    Path("root/dog/self.jpg").symlink_to("self.jpg")
    assert folders(Path("root")) == [Path("root/dog")]
    assert files_in(Path("root/dog"), {".jpg"}) == [Path("root/dog/2.jpg")]


def test_files_of_operating_systems_are_skipped():
    for name in (
        "1.jpg",
        "._1.jpg",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "@eaDir/1.jpg",
        "#recycle/1.jpg",
        "2.JPG/3.txt",
    ):
        Path("root", name).parent.mkdir(parents=True, exist_ok=True)
        Path("root", name).touch()
    assert list(paths_below(Path("root"))) == ["root/1.jpg", "root/2.JPG/3.txt"]
    assert files_in(Path("root"), {".jpg"}) == [Path("root/1.jpg")]
    assert folders(Path("root")) == [Path("root/2.JPG")]


def test_heic_and_avif_images_are_reported_once_for_each_data_set():
    for root, names in {"one": ("a/1.HEIC", "a/2.heif", "b/3.heic"), "two": ("a/1.avif",)}.items():
        for name in (*names, "b/4.jfif"):
            Path(root, name).parent.mkdir(parents=True, exist_ok=True)
            Path(root, name).touch()
        with pytest.warns(UserWarning, match=rf"{root}/.*: HEIC and AVIF images, such as this, .* JPEG") as warned:
            assert images(data_folder(root)) == [Path(root, "b/4.jfif")]
            assert images(Path(root, "b")) == [Path(root, "b/4.jfif")]
        assert len(warned) == 1


def test_broken_link_is_reported():
    Path("root/a").mkdir(parents=True)
    for name in ("root/a/more", "root/b", "root/a/1.jpg"):
        Path(name).symlink_to("nowhere")
    with pytest.warns(UserWarning, match="root/a/more: the link is broken") as warned:
        assert images(Path("root/a")) == [Path("root/a/1.jpg")]  # decoding names it
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="root/b: the link is broken"):
        assert folders(Path("root")) == [Path("root/a")]


def test_folder_that_is_removed_during_the_search_is_named():
    Path("root/a").mkdir(parents=True)
    Path("root/1.jpg").touch()
    paths = paths_below(Path("root"))
    assert next(paths) == "root/1.jpg"
    Path("root/a").rmdir()
    with pytest.raises(UserError, match="root/a: the folder cannot be listed"):
        next(paths)
