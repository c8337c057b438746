"""`--data.root` alone: the format of boxes is recognised, and look-alikes are told apart."""

import json
from pathlib import Path

import pytest
from PIL import Image

from kit.formats import coco_search
from kit.ground.errors import UserError
from project.detection import BoxFolder


def coco(tiny, root: Path) -> None:
    tiny.save(root / "train", tiny.pictures(3))
    tiny.coco(root / "train" / "_annotations.coco.json", tiny.pictures(3))


def voc(tiny, root: Path) -> None:
    tiny.save(root / "JPEGImages", tiny.pictures(3))
    tiny.voc(root / "Annotations", tiny.pictures(3))


def yolo(tiny, root: Path) -> None:
    tiny.save(root / "images" / "train", tiny.pictures(3))
    tiny.yolo(root / "labels" / "train", tiny.pictures(3))
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


FORMATS = {"coco": coco, "voc": voc, "yolo": yolo}


def labelme(root: Path) -> None:
    (root / "0.json").write_text(json.dumps({"shapes": [], "imagePath": "0.jpg"}))


def other_json(root: Path) -> None:
    (root / "tasks.json").write_text(json.dumps([{"annotations": [], "data": {"image": "0.jpg"}}]))
    (root / "package.json").write_text(json.dumps({"name": "x"}))


def other_xml(root: Path) -> None:
    (root / "project.xml").write_text("<project><name>x</name></project>")


def texts(root: Path) -> None:
    (root / "README.txt").write_text("0 1 2 3 4\n")
    (root / "train.txt").write_text("0\n1\n2\n")
    for file in [*root.rglob("*.jpg")][:1]:
        if not (root / "labels").is_dir():
            file.with_suffix(".txt").write_text("a cat on a mat")


def yaml(root: Path) -> None:
    (root / "data.yaml").write_text("names: [cat, dog, owl]\ntrain: images/train\n")


def masks(root: Path) -> None:
    (root / "train_masks").mkdir()
    Image.new("L", (30, 22)).save(root / "train_masks" / "0.png")


@pytest.mark.parametrize("other", [labelme, other_json, other_xml, texts, yaml, masks])
@pytest.mark.parametrize("kind", FORMATS)
def test_other_files_are_not_taken_for_annotations(tiny, tmp_path, kind, other):
    FORMATS[kind](tiny, tmp_path)
    other(tmp_path)
    data = BoxFolder(root=str(tmp_path))
    assert data.format_name == kind.upper() and data.class_names == tiny.CLASSES
    assert len(data.load_split("train")) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_folder_in_a_folder(tiny, tmp_path, kind):
    FORMATS[kind](tiny, tmp_path / "archive")
    assert sum(BoxFolder(root=str(tmp_path)).class_counts) == 6


def test_folder_named_like_a_yaml_file_and_a_yaml_file_in_upper_case(tiny, tmp_path):
    coco(tiny, tmp_path / "cells.data")
    assert BoxFolder(root=str(tmp_path / "cells.data")).format_name == "COCO"
    yolo(tiny, tmp_path / "yolo")
    file = tmp_path / "yolo" / "data.YAML"
    file.write_text("names: [cat, dog, owl]\ntrain: images/train\n")
    assert sum(BoxFolder(root=str(file)).class_counts) == 6


def test_two_formats_are_asked_about(tiny, tmp_path):
    coco(tiny, tmp_path)
    voc(tiny, tmp_path)
    question = r"holds 1 JSON file \(coco\) and 3 XML files \(voc\).*--data\.format coco or --data\.format voc"
    with pytest.raises(UserError, match=question):
        BoxFolder(root=str(tmp_path))
    for kind in ("coco", "voc"):
        assert sum(BoxFolder(root=str(tmp_path), format=kind).class_counts) == 6
    json_file = "train/_annotations.coco.json"
    assert BoxFolder(root=str(tmp_path), train=json_file).format_name == "COCO"


def test_no_format_lists_what_is_expected(tiny, tmp_path):
    tiny.save(tmp_path / "photos", tiny.pictures(2))
    (tmp_path / "notes.txt").write_text("0 1 2 3 4\n")
    with pytest.raises(UserError, match=r"photos/ \(2 images\).*COCO \(.*VOC \(.*YOLO \(") as raised:
        BoxFolder(root=str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("folder", [".", "photos"])
def test_labelme_is_named_with_a_converter(tiny, tmp_path, folder):
    tiny.save(tmp_path / "photos", tiny.pictures(2))
    for number in range(2):
        labelme = {"shapes": [], "imagePath": f"{number}.jpg"}
        (tmp_path / folder / f"{number}.json").write_text(json.dumps(labelme))
    with pytest.raises(UserError, match=r"LabelMe's files.*labelme2coco"):
        BoxFolder(root=str(tmp_path))


def test_few_of_many_labelme_files_are_read_and_a_named_file_wins(tiny, tmp_path, monkeypatch):
    tiny.save(tmp_path / "train", tiny.pictures(3))
    for number in range(50):
        (tmp_path / "train" / f"{number}.json").write_text(json.dumps({"shapes": [], "imagePath": f"{number}.jpg"}))
    looked_at = []
    read_ends = coco_search.read_ends
    monkeypatch.setattr(coco_search, "read_ends", lambda file, count: looked_at.append(file) or read_ends(file, count))
    with pytest.raises(UserError, match="LabelMe's files"):
        BoxFolder(root=str(tmp_path))
    assert len(looked_at) < 30
    tiny.coco(tmp_path / "train" / "_annotations.coco.json", tiny.pictures(3))
    assert BoxFolder(root=str(tmp_path), format="coco").class_names == tiny.CLASSES


def test_broken_json_that_is_no_candidate_does_not_hide_that_nothing_is_recognised(tiny, tmp_path):
    tiny.save(tmp_path / "photos", tiny.pictures(2))
    tiny.save(tmp_path / "other", tiny.pictures(2))
    (tmp_path / "photos" / "k.json").write_text("{broken")
    with pytest.raises(UserError, match="not recognised"):
        BoxFolder(root=str(tmp_path))


OPTIONS = [
    ("voc", {"images": "x"}, "data.images belongs to coco, but the data are in the format voc"),
    ("voc", {"names": ["cat"]}, "data.names belongs to yolo, but"),
    ("yolo", {"crowds": "objects"}, "data.crowds belongs to coco and voc, but the data are in the format yolo"),
    ("coco", {"names": ["cat"]}, "data.names belongs to"),
    ("yolo", {"format": "yolo", "train": "a.json"}, "data.train belongs to coco"),
]


@pytest.mark.parametrize(("kind", "options", "message"), OPTIONS)
def test_option_of_another_format_is_refused(tiny, tmp_path, kind, options, message):
    FORMATS[kind](tiny, tmp_path)
    with pytest.raises(UserError, match=message):
        BoxFolder(root=str(tmp_path), **options)
