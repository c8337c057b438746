"""`test RUN --data OTHER`: a model is tested on data of another format. Classes are found by their names."""

import json
from pathlib import Path

import numpy as np
import pytest

from kit.ground.errors import UserError
from project.segmentation import DigitMasks, MaskFolder

NAMES = ["car", "background", "sky", "road"]  # of the model
STATE = {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": NAMES}


def classes_of_pixels(data) -> set[str]:
    data.load_state_dict(STATE)
    data.setup("test")
    samples = data.samples["test"]
    _, mask = data.sample(samples.read(0), samples.targets[0])
    return {NAMES[number] for number in np.unique(mask).tolist() if number != 255}


def test_masks_have_the_numbers_of_the_model(tiny):
    tiny.folders(Path("data"), {"test": 2})
    assert classes_of_pixels(MaskFolder("data", image_size=(18, 26))) == {"sky", "road", "car"}
    Path("data/classes.txt").write_text("sky\nstreet\ncar\n")
    with pytest.raises(UserError, match="'street'"):
        classes_of_pixels(MaskFolder("data", image_size=(18, 26)))


def test_polygons_have_the_numbers_of_the_model(tiny):
    tiny.folders(Path("data"), {"test": 1})
    content = {
        "images": [{"id": 1, "file_name": "0.png", "height": 18, "width": 26}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}],
        "categories": [{"id": 5, "name": "road"}],
    }
    Path("data/test.json").write_text(json.dumps(content))
    assert classes_of_pixels(MaskFolder("data", test="test.json", images="test")) == {"background", "road"}
    no_background = {**STATE, "class_names": ["ground", "road"]}
    data = MaskFolder("data", test="test.json", images="test")
    data.load_state_dict(no_background)
    with pytest.raises(UserError, match="no class 'background'"):
        data.setup("test")


def test_generated_masks_have_classes_of_their_own():
    with pytest.raises(UserError, match=r"ground, 0, .*car, background"):
        classes_of_pixels(DigitMasks(train=4, val=2, test=2))
