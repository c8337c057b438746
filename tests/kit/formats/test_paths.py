"""Finding the images that files and lists name, as they are written on any machine."""

import unicodedata
from pathlib import Path

import pytest

from kit.formats.folders import images
from kit.formats.paths import Finder, split_lists, unlisted_images

DECOMPOSED = unicodedata.normalize("NFD", "é")
FILES = ["images/cam0/0.png", "images/cam1/0.png", "images/a b (1).jpg", "images/frame.001.jpg", "other/1.png"]
FILES += ["images/a b (1).heic"]  # not used, and so no second file that `a b (1)` may mean
FILES += [f"images/é/{DECOMPOSED}.png", "images/a%20c.png", "images/a c.png", "images/Big.PNG", "images/e?d=f.png"]


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
    ("https://host/a%20b%20(1).jpg", "images/a b (1).jpg"),
    ("/data/local-files/?d=images%5Ca%20b%20(1).jpg", "images/a b (1).jpg"),
    ("x/a%20c.png", "images/a%20c.png"),  # as it is written comes first
    ("images/e?d=f.png", "images/e?d=f.png"),
    ("é/é.png", f"images/é/{DECOMPOSED}.png"),
    (f"{DECOMPOSED}/é.png", f"images/é/{DECOMPOSED}.png"),
    ("C:\\photos\\big.png", "images/Big.PNG"),
    ("CAM0/0.PNG", "images/cam0/0.png"),
    ("x" * 5000 + ".png", None),
    ("a\0.png", None),
    ("0.png", None),  # two files
    ("1.jpg", None),  # another extension
    ("", None),
]


@pytest.mark.parametrize(("written", "file"), NAMES)
def test_file_is_found_by_the_longest_end_of_its_name(root, written, file):
    assert Finder(lambda: images(root))(written) == (root / file if file else None)


@pytest.mark.parametrize(("written", "file"), [pair for pair in NAMES if pair[1] and "." in pair[0][-4:]])
def test_file_is_found_in_a_folder_before_all_files_are_listed(root, written, file):
    find = Finder(lambda: images(root), [root / "images", root])
    assert find(written) == (root / file)


@pytest.mark.parametrize(
    "pattern", ["{}/1.png", "./{}/1.png", "{}\\1.png", "%2E/{}/1.png", "/home/me/{}/1.png", "C:\\{}\\1.png", "{}/1"]
)
def test_file_that_another_path_names_does_not_replace_a_missing_one(root, pattern):
    written = [pattern.format(folder) for folder in ("cat", "other")]
    assert Finder(lambda: images(root), [root])(written[0]) == root / "other/1.png"
    find = Finder(lambda: images(root), [root], written)
    assert [find(path) for path in written] == [None, root / "other/1.png"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (["cat/1.png", "other/1.png", "x/other/1.png"], [None, "other/1.png", None]),
        (["x/Big.PNG", "images/Big.PNG"], [None, "images/Big.PNG"]),
        (["IMAGES/big.PNG", "images/Big.PNG"], [None, "images/Big.PNG"]),
        (["x/top.png", "top.png"], [None, "top.png"]),
        (["TOP.png", "top.png"], [None, "top.png"]),
    ],
)
def test_file_that_a_list_names_exactly_replaces_no_other(root, written, found):
    (root / "top.png").touch()
    find = Finder(lambda: images(root), [root], written)
    assert [find(path) for path in written] == [path and root / path for path in found]


def test_other_paths_are_counted_once(root, capsys):
    find = Finder(lambda: images(root), [root])
    for written in ("images/cam0/0.png", "./images/cam1/0.png", "a b (1)", "cam0/0.png", "gone.png"):
        find(written)
    find.report_other_paths(Path("all.json"))
    assert capsys.readouterr().out == ""
    for written in ("/x/cam0/0.png", "Images/Big.png", "images\\a c.png", "/x/cam0/0.png"):
        find(written)
    find.report_other_paths(Path("all.json"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("all.json: 3 images") and "root/images/cam0/0.png for '/x/cam0/0.png'" in line


def test_name_in_many_folders_takes_linear_time():
    files = [Path(f"video{folder}", f"{image}.jpg") for folder in range(200) for image in range(30)]
    find = Finder(lambda: files)
    assert [find(f"/x/{file}") for file in files] == files
    assert find("/x/0.jpg") is None


def test_given_folders_come_first_also_with_other_accents(root):
    for folder in ("images", "drawn"):
        (root / folder / f"{DECOMPOSED}1.png").parent.mkdir(exist_ok=True)
        (root / folder / f"{DECOMPOSED}1.png").touch()
    assert Finder(lambda: images(root))("é1.png") is None
    assert Finder(lambda: images(root), [root / "images", root])("é1.png") == root / f"images/{DECOMPOSED}1.png"


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
