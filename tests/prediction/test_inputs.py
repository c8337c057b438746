"""Which files are meant, and what their results are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from project import UserError
from project.prediction import inputs


def images(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(name)


def test_files_folders_and_patterns_each_image_once():
    images("a/1.png", "a/deep/2.jpg", "b.png", "c.bmp")
    Path("a/notes.txt").touch()
    found = inputs.find(["b.png", "a", "*.png", "a/**/*.jpg", "a/notes.txt"])
    assert list(map(str, found)) == ["b.png", "a/1.png", "a/deep/2.jpg", "a/notes.txt"]


@pytest.mark.parametrize("word", ["gone.png", "*.tif", "empty"])
def test_what_means_no_file(word):
    Path("empty").mkdir()
    images("a.png")
    with pytest.raises(UserError, match=word.replace("*", r"\*")):
        inputs.find(["a.png", word])


def test_a_result_is_called_as_its_image():
    files = [Path(name) for name in ("x/a/1.png", "x/a/2.png", "x/b/1.png", "x/b/1.jpg")]
    assert inputs.names(files) == ["a/1", "a/2", "b/1.png", "b/1.jpg"]
    assert inputs.names(files[:1]) == ["1"]


@given(st.sets(st.text("ab./", min_size=1, max_size=8), min_size=1, max_size=6))
def test_no_two_results_are_called_alike(words):
    files = list({Path("r", *filter(None, word.strip("./").split("/")), "f.png") for word in words if ".." not in word})
    if files:
        named = inputs.names(files)
        assert len(set(named)) == len(files) and not any(Path(name).is_absolute() for name in named)
