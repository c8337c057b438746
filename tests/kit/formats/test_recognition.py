"""The format of a folder is the given one, or the only one that was found."""

from pathlib import Path

import pytest

from kit.formats.recognition import Evidence, choose_format, possible_formats, refuse_other_options
from kit.ground.errors import UserError

FOUND = {"coco": "1 JSON file", "voc": "3 XML files"}


def test_format_is_given_or_the_only_one():
    assert choose_format(Path("d"), {"voc": "3 XML files"}, "") == "voc"


def test_several_or_no_formats_are_an_error():
    (Path("d") / "photos").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^d holds 1 JSON file \(coco\) and 3 XML files \(voc\).*--data\.format coco"):
        choose_format(Path("d"), FOUND, "")
    with pytest.raises(UserError, match=r"^d: .*holds photos/ \(0 images\); expected this; .*--data\.format"):
        choose_format(Path("d"), {}, "this")


@pytest.mark.parametrize(
    ("right", "found"),
    [
        ("a.x", {"x": "2 X files"}),  # right content wins over names
        ("c.y", {"y": "1 Y file"}),
        ("", {"x": "2 X files", "y": "1 Y file"}),  # all may be broken
    ],
)
def test_content_counts_more_than_names(right, found):
    x, y, z = [Path("a.x"), Path("b.x")], [Path("c.y")], []
    evidence = {name: (files, noun) for name, files, noun in (("x", x, "X file"), ("y", y, "Y file"), ("z", z, "Z"))}
    tested = {name: Evidence(*pair, lambda file: file.name == right) for name, pair in evidence.items()}
    assert possible_formats(tested) == found


def test_options_of_another_format_are_refused():
    refuse_other_options("a", {("b",): {"x": None}, ("a", "b"): {"y": 1}})
    with pytest.raises(UserError, match=r"data\.x belongs to b and c, but the data are in the format a; remove it"):
        refuse_other_options("a", {("b", "c"): {"x": 0}})
