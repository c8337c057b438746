"""What is not learned from is counted and named; numbers that are written as text are numbers."""

import json
import unicodedata
from pathlib import Path

import pytest
from texts import as_text

from kit.checks.survey import full_survey
from kit.ground.errors import UserError
from project.detection import BoxFolder

STATISTICS = {"mean": [0.5] * 3, "std": [1.0] * 3}


def crowded(tiny, kind, crowds: list[list[bool]]) -> str:
    """Images with a cat and a dog each, which are crowds as given."""
    some = [tiny.Picture(f"{number}.jpg", crowd=crowd) for number, crowd in enumerate(crowds)]
    tiny.save(Path("data"), some)
    if kind == "coco":
        tiny.coco(Path("data/all.json"), some)
    else:
        tiny.voc(Path("data"), some)
    return "data"


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_crowds_are_counted_by_class(tiny, kind):
    root = crowded(tiny, kind, [[True, False], [False, False], [True, False]])
    with pytest.warns(UserWarning, match=r"train: crowds .*: 'cat' 2 of 3$"):
        assert BoxFolder(root=root, **STATISTICS).class_counts[:2] == [1, 3]
    faults = [fault for fault in BoxFolder(root=root, **STATISTICS).annotation_faults() if fault.kind == "crowd"]
    assert [(fault.severity, "2 of 3 annotations of 'cat'" in fault.message) for fault in faults] == [("warning", True)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_class_with_only_crowds_is_an_error_unless_they_are_objects(tiny, kind):
    root = crowded(tiny, kind, [[True, False], [True, False]])
    with pytest.raises(UserError, match=r"all annotations of 'cat' are crowds.*--data\.crowds objects"):
        _ = BoxFolder(root=root, **STATISTICS).class_counts
    faults = full_survey(BoxFolder(root=root, **STATISTICS)).faults
    assert [fault.severity for fault in faults if "--data.crowds objects" in fault.message] == ["error", "warning"]
    assert BoxFolder(root=root, crowds="objects", **STATISTICS).class_counts[:2] == [2, 2]
    assert "crowd" not in {one.kind for one in BoxFolder(root=root, crowds="objects", **STATISTICS).annotation_faults()}


def test_numbers_as_text_in_coco(tiny):
    file = tiny.coco(Path("data/all.json"), tiny.pictures(6))
    tiny.save(Path("data"), tiny.pictures(6))
    numbers = BoxFolder(root="data", **STATISTICS).load_split("train").targets
    file.write_text(json.dumps(as_text(json.loads(file.read_text()))))
    texts = BoxFolder(root="data", **STATISTICS).load_split("train").targets
    assert [str(target) for target in texts] == [str(target) for target in numbers]
    assert sum(len(target["boxes"]) for target in texts) == 12 and not any(target["crowd"].any() for target in texts)


@pytest.mark.parametrize("bbox", ["1234", [1, 2, 3, "four"], [1, 2, 3, True], {"x": 1, "y": 2, "w": 3, "h": 4}])
def test_invalid_bbox_is_reported(tiny, bbox):
    file = tiny.coco(Path("data/all.json"), tiny.pictures(2))
    tiny.save(Path("data"), tiny.pictures(2))
    content = json.loads(file.read_text())
    content["annotations"][1]["bbox"] = bbox
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"1\.jpg: annotation 10 of all\.json has no bbox of four numbers"):
        BoxFolder(root="data", **STATISTICS).load_split("train")


def test_categories_with_the_same_name_are_merged_with_a_message(tiny):
    file = tiny.coco(Path("data/all.json"), tiny.pictures(6))
    tiny.save(Path("data"), tiny.pictures(6))
    file.write_text(file.read_text().replace('"name": "dog"', '"name": "cat "'))
    with pytest.warns(UserWarning, match="class-joined 1"):
        assert BoxFolder(root="data", **STATISTICS).class_counts == [8, 4]
    (fault,) = BoxFolder(root="data").annotation_faults()
    assert "2 classes are named 'cat'" in fault.message


XML = [
    ("<difficult>0", "<difficult>1.0", None),
    ("<difficult>0", "<difficult>", None),
    ("<difficult>0", "<difficult>yes", r"0\.xml:8: .*difficult"),
    ("<width>30", "<width> 30.0 ", None),
    ("<width>30", "<width>wide", r"0\.xml: its size is not a number of pixels"),
]


@pytest.mark.parametrize(("old", "new", "message"), XML)
def test_numbers_in_xml(tiny, old, new, message):
    tiny.save(Path("data"), tiny.pictures(3))
    tiny.voc(Path("data"), tiny.pictures(3))
    file = Path("data/0.xml")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    data = BoxFolder(root="data", crowds="objects", **STATISTICS)
    if message:
        with pytest.raises(UserError, match=message):
            data.load_split("train")
    else:
        assert sum(data.class_counts) == 6
        assert data.annotated_split("train").annotations[0].size == (22, 30)


def test_run_names_the_first_of_files_that_all_cannot_be_read(tiny):
    tiny.save(Path("data"), tiny.pictures(3))
    tiny.voc(Path("data"), tiny.pictures(3))
    for file in Path("data").glob("*.xml"):
        file.write_bytes(file.read_text().replace("<size>", "<!-- \xe9 --><size>").encode("latin-1"))
    with pytest.raises(UserError, match=r"0\.xml:\d+: not UTF-8"):
        _ = BoxFolder(root="data", **STATISTICS).class_names


def test_accents_of_yolo_names_may_be_composed_or_not(tiny):
    pictures = [tiny.Picture(f"é{number}.jpg") for number in range(3)]
    tiny.save(Path("data/images"), pictures)
    tiny.yolo(Path("data/labels"), pictures)
    Path("data/classes.txt").write_text(" cat\ndog \nowl\n")
    for file in Path("data/images").iterdir():
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    data = BoxFolder(root="data", **STATISTICS)
    assert data.class_names == ["cat", "dog", "owl"] and sum(data.class_counts) == 6
    assert list(data.annotation_faults()) == []


NAMES = [
    ("[yes, no, ON]", ["yes", "no", "ON"]),
    ("{0: true, 1: 1.0, 2: 010}", ["true", "1.0", "010"]),
    ("[null, 2020-01-01, 1_000]", ["null", "2020-01-01", "1_000"]),
]


@pytest.mark.parametrize(("names", "wanted"), NAMES)
def test_yaml_class_names_stay_text(tiny, names, wanted):
    tiny.save(Path("data"), tiny.pictures(3))
    tiny.yolo(Path("data"), tiny.pictures(3))
    Path("data/data.yaml").write_text(f"train: .\nnames: {names}\nnc: '3'\n")
    data = BoxFolder(root="data", **STATISTICS)
    assert data.class_names == wanted and sum(data.class_counts) == 6
    Path("data/data.yaml").write_text(f"train: .\nnames: {names}\nnc: '4'\n")
    with pytest.raises(UserError, match="nc is 4, but there are 3 names"):
        BoxFolder(root="data")


def test_repeated_names_in_yaml_are_merged_with_a_message(tiny):
    tiny.save(Path("data"), tiny.pictures(6))
    tiny.yolo(Path("data"), tiny.pictures(6))
    Path("data/data.yaml").write_text("train: .\nnames: [cat, cat, owl]\n")
    with pytest.warns(UserWarning, match="class-joined 1"):
        assert BoxFolder(root="data", **STATISTICS).class_counts == [8, 4]


LINES = [  # on an image of 40 by 20
    ("0 0.5 0.2 1.002 0.2 1.002 0.8 0.5 0.8", [20, 4, 40, 16], None),
    ("0 0.5 0.2 1.5 0.2 1.5 0.8 0.5 0.8", [20, 4, 40, 16], "box-out-of-bounds"),
    ("0 0.5 0.2 -0.5 0.2 -0.5 0.8 0.5 0.8", [0, 4, 20, 16], "box-out-of-bounds"),
    ("0 0.5 0.5 1.2 0.5", [0, 5, 40, 15], "box-out-of-bounds"),
    ("0 12 4 30 4 30 16 12 16", None, "box-wrong-unit"),
    ("0 -12 0.2 0.5 0.2 0.5 0.8 -12 0.8", None, "box-wrong-unit"),
]


@pytest.mark.parametrize(("line", "box", "kind"), LINES)
def test_yolo_boxes_are_clipped_on_every_side(tiny, line, box, kind):
    tiny.Picture("1.jpg", (20, 40)).save(Path("data"))
    Path("data/1.txt").write_text(f"{line}\n0 0.5 0.5 0.5 0.5\n")
    Path("data/classes.txt").write_text("cat\n")
    data = BoxFolder(root="data", **STATISTICS)
    boxes = data.box_split("train").targets[0]["boxes"].tolist()
    assert boxes == [*([pytest.approx(box)] if box else []), [10, 5, 30, 15]]
    assert [fault.kind for fault in data.box_split("train").faults] == ([kind] if kind else [])


def test_message_about_a_wrong_unit_has_the_numbers_of_the_file(tiny):
    tiny.Picture("1.jpg", (20, 40)).save(Path("data"))
    Path("data/1.txt").write_text("0 12 4 30 4 30 16\n")
    Path("data/classes.txt").write_text("cat\n")
    (fault, _) = BoxFolder(root="data", **STATISTICS).annotation_faults()
    assert fault.kind == "box-wrong-unit" and "(12, 4, 30, 16)" in fault.message and fault.box == (12, 4, 30, 16)
