"""Finding the images that files and lists name, as they are written on any machine."""

from pathlib import Path

import pytest

from kit.formats.folders import images
from kit.formats.paths import Finder, split_lists, unlisted_images

FILES = ["images/cam0/0.png", "images/cam1/0.png", "images/a b (1).jpg", "images/frame.001.jpg", "other/1.png"]


@pytest.fixture
def root() -> Path:
    for name in FILES:
        Path("root", name).parent.mkdir(parents=True, exist_ok=True)
        Path("root", name).touch()
    return Path("root")


NAMES = [  # as it is written, and the file that is meant
    ("cam0/0.png", "images/cam0/0.png"),
    ("cam1\\0.png", "images/cam1/0.png"),
    ("/mnt/x/proj/cam1/0.png", "images/cam1/0.png"),
    ("/data/local-files/?d=images/cam0/0.png", "images/cam0/0.png"),
    ("https://host/1.png?v=2", "other/1.png"),
    ("a b (1)", "images/a b (1).jpg"),
    ("frame.001", "images/frame.001.jpg"),
    ("0.png", None),  # two files
    ("1.jpg", None),  # another extension
    ("", None),
]


@pytest.mark.parametrize(("written", "file"), NAMES)
def test_file_is_found_by_the_longest_end_of_its_name(root, written, file):
    assert Finder(lambda: images(root))(written) == (root / file if file else None)


def test_given_folders_come_first(root):
    assert Finder(lambda: images(root), [root / "images" / "cam1"])("0.png") == root / "images/cam1/0.png"
    assert Finder(lambda: [], [root])("other/1.png") == root / "other/1.png"


def test_split_lists(root):
    for name, text in (("trainval", "a\n\n b 1 \n"), ("val", ""), ("Test", "c\n")):
        Path(root, "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        Path(root, "ImageSets/Main", f"{name}.txt").write_text(text)
    assert split_lists(root, "main") == {"train": ["a", "b 1"], "test": ["c"]}
    assert split_lists(root / "other", "main") == {}


def test_unlisted_images(root):
    listed = root / "images/cam0/0.png"
    Path(root, "images/cam0/new.png").touch()
    Path(root, "images/cam0/.hidden.png").touch()
    assert unlisted_images({listed}) == [root / "images/cam0/new.png"]
