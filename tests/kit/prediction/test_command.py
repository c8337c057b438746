"""Find the images that words name, and name their results."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kit.ground.errors import UserError
from kit.prediction import command


def images(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(name)


def test_files_and_folders_give_each_image_once():
    images("a/1.png", "a/deep/2.jpg", "b.png", "c.bmp")
    Path("a/notes.txt").touch()
    files = command.find_images(["b.png", "a", "b.png", "a/deep/2.jpg", "a/notes.txt"])
    assert list(map(str, files)) == ["b.png", "a/1.png", "a/deep/2.jpg", "a/notes.txt"]


@pytest.mark.filterwarnings("ignore:.*leads back")
def test_folders_follow_links_once_and_skip_hidden_files():
    images("a/1.png", "a/b/2.png", "a/@eaDir/1.png", "a/.b/3.png", "a/b/c/4.png", "elsewhere/5.png")
    Path("a/x.png").mkdir()
    Path("a/b/again").symlink_to("..")
    Path("a/b/c/self").symlink_to(".")
    Path("a/more").symlink_to("../elsewhere")
    names = ["a/1.png", "a/b/2.png", "a/b/c/4.png", "a/more/5.png"]
    assert list(map(str, command.find_images(["a"]))) == names
    assert list(map(str, command.find_images(["a/.b"]))) == ["a/.b/3.png"]


@pytest.mark.parametrize("word", ["gone.png", "*.tif", "empty"])
def test_word_without_file_is_refused(word):
    Path("empty").mkdir()
    images("a.png")
    with pytest.raises(UserError, match=word.replace("*", r"\*")):
        command.find_images(["a.png", word])


def test_results_are_named_after_images():
    files = [Path(name) for name in ("x/a/1.png", "x/a/2.png", "x/b/1.png", "x/b/1.jpg")]
    assert command.output_names(files) == ["a/1", "a/2", "b/1.png", "b/1.jpg"]
    assert command.output_names([Path("a.png"), Path("a.jpg"), Path("a.png.bmp")]) == ["a.png", "a.jpg", "a.png.bmp"]
    assert command.output_names(files[:1]) == ["1"]


def test_paths_with_parent_folders_give_names_without():
    images("a/1.png", "b/deep/2.png", "3.png")
    Path("link").symlink_to("b/deep", target_is_directory=True)
    files = command.find_images(
        ["a/../b/deep/../../3.png", "a/1.png", "link/../../a/1.png", "link/../deep/2.png", "3.png"]
    )
    assert list(map(str, files)) == ["a/../b/deep/../../3.png", "a/1.png", "link/../deep/2.png"]
    assert command.output_names(files) == ["3", "a/1", "b/deep/2"]


def test_results_are_left_out():
    images("in/a.png", "in/out/pictures/a.jpg", "in/pictures/b.png")
    results = [Path("in/out/pictures"), Path("in/out/masks")]
    for word in ("in", str(Path("in").absolute())):
        files = command.find_images([word], results)
        assert [file.name for file in files] == ["a.png", "b.png"]
    for word in ("in/out", "in/out/pictures/a.jpg", "in/pictures/../out/pictures/a.jpg"):
        with pytest.raises(UserError, match="is in the folder for results; choose another folder with --out"):
            command.find_images([word], results)


@given(st.lists(st.sampled_from(["a", "b", ".."]), max_size=4), st.data())
def test_result_names_are_unique(start, data):
    steps = st.lists(st.sampled_from(["a", "b", "..", "a.png"]), max_size=4)
    ends = st.sampled_from(["a", "a.png", "a.jpg", "a.png.bmp", "b.a.png", ".a"])
    files = data.draw(
        st.lists(st.builds(lambda way, end: Path(*start, *way, end), steps, ends), min_size=1, max_size=8)
    )
    named = command.output_names(files)
    same = {os.path.normpath(file.absolute()) for file in files}  # nothing is there, so no link
    assert len(set(named)) == len(same)
    assert not any(Path(name).is_absolute() or ".." in Path(name).parts for name in named)
