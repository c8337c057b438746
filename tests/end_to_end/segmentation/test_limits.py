"""Masks and scenes of anyone's: what would hang, fill memory or end in a traceback ends in one line."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from kit.formats.masks.classes import read_table
from kit.formats.masks.coco import CocoShapes, read
from kit.formats.masks.mask_images import read_values
from kit.ground.errors import BrokenFiles, UserError


def test_files_that_are_no_masks_are_not_opened() -> None:
    os.mkfifo("pipe.png")
    Path("zero.png").symlink_to("/dev/zero")
    Path("folder.png").mkdir()
    for name, word in {"pipe.png": "named pipe", "zero.png": "device", "folder.png": "folder"}.items():
        with pytest.raises(BrokenFiles, match=f"{name}: .*{word}"):
            read_values(Path(name))


def _coco(**annotation: object) -> Path:
    image = {"id": 1, "file_name": "a.png", "height": 480, "width": 640}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, **annotation}
    parts = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    Path("train.json").write_text(json.dumps(parts))
    Image.new("L", (640, 480)).save("a.png")
    return Path("train.json")


def test_too_large_polygons_and_run_lengths_are_refused() -> None:
    for polygon in ([0, 0, 6000, 6000] * 2000, [0, 0, 1e300, 5, 5, 5], [0, 0, -1_000_000, 5, 5, 5]):
        (fault,) = read(_coco(segmentation=[polygon]), Path()).faults
        assert "at most 2,000,000 pixels" in fault.message
    (fault,) = read(_coco(segmentation=[[1, 1, None, 5] * 30]), Path()).faults
    assert re.fullmatch(r"annotation 1: its segmentation is \[\[1, 1, null, .{46}\.\.\., .*finite.*", fault.message)
    (fault,) = read(_coco(segmentation=[1, 2]), Path()).faults
    assert "is [1, 2], but must be polygons of finite numbers x, y, x, y, ... with at least 3 corners" in fault.message
    document = read(_coco(segmentation={"size": [10**6, 10**6], "counts": [0, 10**12]}), Path())
    assert CocoShapes(document.file, ((1, 0),)).read_with_problems(document.images[0])[1] != []
    many = [[value for x in range(320) for value in (2 * x, 0, 2 * x + 1, 479)]]  # a comb that fills the image
    assert not read(_coco(segmentation=many), Path()).faults


def test_hostile_json_is_refused() -> None:
    for text, word in (("[" * 5000, "nested"), ('{"images": ' + "9" * 5000 + "}", "digits"), ("é", "UTF-8")):
        Path("train.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(BrokenFiles, match=word):
            read(Path("train.json"), Path())


def test_too_large_class_table_is_refused() -> None:
    Path("classes.txt").write_text("0, cat\n999999999, dog\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: .*999999999"):
        read_table(Path("classes.txt"))
    Path("classes.txt").write_text(f"cat\n{'9' * 5000} 1 1 dog\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: .*characters"):
        read_table(Path("classes.txt"))
