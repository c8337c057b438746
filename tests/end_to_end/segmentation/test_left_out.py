"""What of COCO's annotations is not drawn is counted and named; numbers that are written as text are numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from texts import as_text

from kit.checks.survey import full_survey
from kit.ground.errors import UserError
from project.segmentation import MaskFolder

STATISTICS = {"image_size": "native", "mean": [0.5] * 3, "std": [1.0] * 3}
SQUARE = [[1, 1, 5, 1, 5, 4, 1, 4]]
RUNS = {"size": [6, 8], "counts": [30, 12, 6]}  # the last columns but one


def write(annotations: list[dict], **changes) -> str:
    """Two images of 6 by 8 pixels, and a JSON about them."""
    Path("data").mkdir(exist_ok=True)
    for number in (1, 2):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3)).astype(np.uint8)).save(
            f"data/{number}.png"
        )
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 6, "width": 8} for n in (1, 2)],
        "categories": [{"id": 3, "name": "rim"}, {"id": 7, "name": "cell"}],
        "annotations": [{"id": n, "image_id": 1, **one} for n, one in enumerate(annotations)],
        **changes,
    }
    Path("data/all.json").write_text(json.dumps(content))
    return "data"


def planes(root: str, **options) -> torch.Tensor:
    """uint8 [N H W]: the masks."""
    samples = MaskFolder(root=root, **STATISTICS, **options).load_split("train")
    return torch.stack([samples.read(index)[-1] for index in range(len(samples))])


RIM, CELL = {"category_id": 3, "segmentation": SQUARE}, {"category_id": 7, "segmentation": RUNS}


def test_crowds_are_counted_by_class():
    root = write([RIM, CELL, {**CELL, "image_id": 2, "iscrowd": 1}])
    with pytest.warns(UserWarning, match=r"crowds .*: 'cell' 1 of 2$"):
        assert planes(root)[1].unique().tolist() == [0, 255]
    faults = [fault for fault in MaskFolder(root=root).annotation_faults() if fault.kind == "crowd"]
    assert [(fault.severity, "1 of 2 annotations of 'cell'" in fault.message) for fault in faults] == [
        ("warning", True)
    ]


def test_class_with_only_crowds_is_an_error_unless_they_are_objects():
    """As CVAT writes every brush mask."""
    root = write([RIM, {**CELL, "iscrowd": 1}])
    with pytest.raises(UserError, match=r"all annotations of 'cell' are crowds.*--data\.crowds objects"):
        planes(root)
    faults = full_survey(MaskFolder(root=root, **STATISTICS)).faults
    assert [fault.severity for fault in faults if "--data.crowds objects" in fault.message] == ["error", "warning"]
    assert planes(root, crowds="objects")[0].unique().tolist() == [0, 1, 2]
    assert "crowd" not in {fault.kind for fault in MaskFolder(root=root, crowds="objects").annotation_faults()}


@pytest.mark.filterwarnings("ignore:.*crowds are neither")
def test_disk_cache_depends_on_crowds():
    root = write([RIM, CELL, {**CELL, "image_id": 2, "iscrowd": 1}])
    for crowds, number in (("ignore", 255), ("objects", 2)):
        data = MaskFolder(root=root, crowds=crowds, cache="disk", **{**STATISTICS, "image_size": (6, 8)})
        data.all_is_test = True
        data.setup("test")
        assert data.samples["test"].read(1)[-1].unique().tolist() == [0, number]


def test_numbers_as_text():
    annotations = [
        {**RIM, "iscrowd": 0},
        {**CELL, "iscrowd": 0, "segmentation": {"size": [6, 8.0], "counts": [30, 18]}},
    ]
    numbers = planes(write(annotations))
    Path("data/all.json").write_text(json.dumps(as_text(json.loads(Path("data/all.json").read_text()))))
    assert torch.equal(planes("data"), numbers) and numbers[0].unique().tolist() == [0, 1, 2]


def test_invalid_shapes_are_counted_by_kind():
    root = write([RIM, CELL, {**RIM, "segmentation": []}, {**RIM, "segmentation": []}, {**RIM, "image_id": 9}])
    with pytest.warns(UserWarning) as caught:
        planes(root)
    messages = " ".join(str(warning.message) for warning in caught)
    assert "annotation-unreadable (2), for example: annotation 2" in messages and "; it is left out" in messages
    assert "image-missing (1), for example: 1 annotation(s) have the image 9" in messages


def test_unlisted_category_stops_the_run():
    with pytest.raises(UserError, match=r"all\.json: 1 annotation.* the category 4, .*; add the category"):
        planes(write([RIM, {**RIM, "category_id": 4}]))


def test_categories_with_the_same_name_are_merged_with_a_message():
    root = write([RIM, CELL], categories=[{"id": 3, "name": "rim"}, {"id": 7, "name": " rim "}])
    with pytest.warns(UserWarning, match="2 classes are named 'rim'"):
        assert planes(root)[0].unique().tolist() == [0, 1]
    assert [fault.kind for fault in MaskFolder(root=root).annotation_faults()] == ["class-joined"]
