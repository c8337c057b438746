"""Annotations and scenes of anyone's: what would hang, fill memory or end in a traceback ends in one line."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import Reading
from kit.ground.errors import UserError
from kit.ground.faults import Fault


def faults_of(reading: Reading) -> list[Fault]:
    return [*reading.faults, *(fault for annotation in reading.annotations for fault in annotation.faults)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("names: {999999999: cat}\ntrain: .\n", "data.yaml: .*999999999"),
        ("train: .\nnames: {100000000000000000000: cat}\n", "data.yaml: .*class"),
        (f"train: .\nnames: {'[' * 100}{']' * 100}\n", "data.yaml:2: .*nested"),
        ("train: .\nnc: " + "9" * 5000 + "\nnames: [a]\n", "data.yaml: .*digits"),
        ("train: .\nnames: [a]\n" + "# " * 2**20, "bytes"),
    ],
)
def test_too_large_data_yaml_is_refused(text: str, word: str) -> None:
    Path("data.yaml").write_text(text)
    with pytest.raises(UserError, match=word):
        yolo.find(Path())


def test_pipes_and_too_large_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yolo, "MAX_ANNOTATION_BYTES", 100)
    for name in ("a", "b", "c"):
        Image.new("L", (4, 4)).save(f"{name}.png")
    os.mkfifo("other.txt")
    Path("b.txt").write_text("0 0.5 0.5 1 1\n" * 50)
    Path("c.txt").write_text(f"{'9' * 50} 0.5 0.5 1 1\n")
    found = yolo.YoloBoxes(Path(), ["cat"]).read("train")
    assert [(fault.kind, Path(fault.file).name, fault.line) for fault in faults_of(found)] == [
        ("annotation-missing", "a.png", None),
        ("annotation-unreadable", "b.txt", None),
        ("class-unknown", "c.txt", 1),
    ]


def test_xml_beyond_limits_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.formats.text.MAX_ANNOTATION_BYTES", 2_000_000)
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(10))
    texts = {
        "bomb": f"<!DOCTYPE a [{entities}]><annotation><object><name>&a9;</name></object></annotation>",
        "codec": '<?xml version="1.0" encoding="nothing"?><annotation/>',
        "deep": "<a>" * 20_000 + "</a>" * 20_000,
        "long": f"<annotation>{' ' * 2_000_000}</annotation>",
        "many": f"<annotation><filename>{' ' * 50_000}x</filename>{'<object/>' * 2_000}</annotation>",
        "size": "<annotation><size><width>1e999</width><height>5</height></size></annotation>",
    }
    for name, text in texts.items():
        Path(f"{name}.xml").write_text(text)
        Image.new("L", (4, 4)).save(f"{name}.png")
    found = voc.VocBoxes(Path()).read("train")
    words = {Path(fault.file).stem: fault.message for fault in faults_of(found)}
    assert {"bomb", "codec", "long", "many"} <= set(words) <= {"bomb", "codec", "long", "many", "size"}
    assert "entities" in words["bomb"] and "encoding" in words["codec"] and "bytes" in words["long"]


def test_too_large_numbers_are_refused() -> None:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10**400, 1]}
    image = {"id": 1, "file_name": "a.png", "height": 4, "width": 4}
    parts = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    Path("train.json").write_text(json.dumps(parts))
    Image.new("L", (4, 4)).save("a.png")
    found = coco.CocoBoxes(Path(), {"train": "train.json"}, None).read("train")
    assert [fault.kind for fault in faults_of(found)] == ["annotation-unreadable"]
