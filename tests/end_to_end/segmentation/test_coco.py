"""COCO's annotations drawn as masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.ground.errors import BrokenFiles, UserError
from project.segmentation import MaskFolder

STATISTICS = {"mean": [0.5] * 3, "std": [1.0] * 3}
CATEGORIES = [{"id": 7, "name": "cell"}, {"id": 3, "name": "rim"}]
SQUARE = [1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]  # columns 1 to 4 of rows 1 to 3


def annotation(category: int, segmentation, image: int = 1, crowd: int = 0) -> dict:
    return {"id": 9, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": crowd}


def runs(mask: np.ndarray, compressed: bool) -> dict:
    """COCO's run lengths, column by column, from a mask of 0 and 1."""
    from faster_coco_eval.core import mask as rle

    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    counts, last = [0], 0
    for value in mask.T.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def write(annotations: list[dict], file: str = "root/annotations.json", images: str = "root/images", **changes) -> Path:
    """One image of 6x8, and a JSON about it."""
    Path(images).mkdir(parents=True, exist_ok=True)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(f"{images}/a.png")
    Image.new("RGB", (8, 6)).save(f"{images}/b.png")
    listed = [
        {"id": number, "file_name": f"{name}.png", "height": 6, "width": 8} for number, name in ((1, "a"), (2, "b"))
    ]
    content = {"images": listed, "annotations": annotations, "categories": CATEGORIES, **changes}
    Path(file).write_text(json.dumps(content))
    return Path("root")


def masks(root: Path, split: str = "train", **options) -> list[torch.Tensor]:
    data = MaskFolder(root=str(root), image_size="native", **STATISTICS, **options)
    samples = data.load_split(split)
    return [data.sample(samples.read(index), None)[1] for index in range(len(samples))]


def square() -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 1:5] = 1
    return mask


FORMS = {"polygon": [SQUARE], "runs": runs(square(), False), "compressed runs": runs(square(), True)}


@pytest.mark.parametrize("form", FORMS)
def test_polygons_and_run_lengths_give_the_same_mask(form):
    first, second = masks(write([annotation(7, FORMS[form])]))
    assert torch.equal(first, 2 * torch.from_numpy(square()))  # by category id: rim is 1, cell is 2
    assert (second == 0).all()


def test_later_annotations_cover_earlier_ones_and_crowds_are_ignored():
    left = np.zeros((6, 8), np.uint8)
    left[:, :3] = 1
    later = [
        annotation(3, [SQUARE]),
        annotation(7, runs(left, True)),
        annotation(3, runs(left[:, ::-1], False), crowd=1),
    ]
    wanted = square()
    wanted[:, :3] = 2
    wanted[:, 5:] = 255
    assert torch.equal(masks(write(later))[0], torch.from_numpy(wanted))


def test_class_names_and_counts():
    above = [{"id": 0, "name": "cells", "supercategory": "none"}]
    below = [{**category, "supercategory": "cells"} for category in CATEGORIES]
    root = write([annotation(7, [SQUARE])], categories=above + below)  # as Roboflow writes them
    data = MaskFolder(root=str(root), image_size="native")
    assert data.class_names == ["background", "rim", "cell"]
    assert data.class_counts == [2 * 48 - 12, 0, 12] and data.in_channels == 3


def test_classes_are_those_of_train():
    for split, listed in (("test", CATEGORIES[:1]), ("train", CATEGORIES)):  # the test has no rim
        file = f"root/annotations/instances_{split}.json"
        root = write([annotation(7, [SQUARE])], file, f"root/{split}", categories=listed)
    data = MaskFolder(root=str(root), image_size="native")
    assert data.class_names == ["background", "rim", "cell"]
    assert list(data.annotation_faults()) == []
    assert masks(root, "test")[0].max() == 2
    (root / "annotations" / "instances_train.json").unlink()
    assert MaskFolder(root=str(root)).class_names == ["background", "cell"]


LAYOUTS = {
    "coco": [(f"root/annotations/instances_{s}2017.json", f"root/{s}2017") for s in ("train", "val")],
    "coco in images": [(f"root/annotations/instances_{s}2017.json", f"root/images/{s}2017") for s in ("train", "val")],
    "roboflow": [(f"root/{s}/_annotations.coco.json", f"root/{s}") for s in ("train", "valid", "test")],
    "one": [("root/result.json", "root/images")],
    "cvat": [("root/annotations/instances_default.json", "root/images/default")],
    "beside": [("root/labels.json", "root")],
    "archive": [("root/set/annotations/instances_train.json", "root/set/train")],
    "last first": [("root/set_a_val.json", "root/val"), ("root/set_b_train.json", "root/train")],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_found(name):
    for file, images in LAYOUTS[name]:
        root = write([annotation(7, [SQUARE])], file, images)
    if name == "archive":
        (root / "__MACOSX").mkdir()
    if name == "coco":
        (root / "annotations" / "captions_train2017.json").write_text("{}")
    data = MaskFolder(root=str(root), image_size="native")
    assert len(data.reader.files) == len(LAYOUTS[name])
    assert next(iter(data.reader.files)) == "train"
    for split in data.reader.files:
        samples = data.load_split(split)
        assert samples.read(0).shape == (4, 6, 8)
    assert list(data.annotation_faults()) == []


def test_ambiguous_layouts_are_refused():
    root = write([], "root/a.json")
    write([], "root/b.json")
    with pytest.raises(UserError, match=r"which of a\.json, b\.json is for train\?.* --data\.train FILE"):
        MaskFolder(root=str(root))
    assert MaskFolder(root=str(root), train="b.json").reader.files == {"train": root / "b.json"}
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"no images with masks in empty.*_annotations\.coco\.json"):
        MaskFolder(root="empty")


def test_boxes_without_masks_are_refused():
    root = write([{"id": 4, "image_id": 1, "category_id": 7, "bbox": [1, 1, 3, 3]}])
    with pytest.raises(UserError, match=r"nothing in it can be drawn .*\(annotation 4: its segmentation is null"):
        masks(root)


@pytest.mark.parametrize("text", ["{", '{"images": []}', "[]", '{"images": 3, "annotations": [], "categories": []}'])
def test_invalid_coco_is_one_line(text):
    Path("root").mkdir()
    Path("root/x.json").write_text(text)
    data = MaskFolder(root="root", format="coco")
    with pytest.raises(BrokenFiles, match=r"x\.json.*(broken JSON|no list of)"):
        _ = data.class_names
    faults = list(data.annotation_faults())
    assert [fault.kind for fault in faults] == ["annotation-unreadable"]


def test_annotations_of_images_rotated_by_exif():
    for size in ((6, 8), (8, 6)):
        root = write([annotation(7, [[1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0]])])
        content = json.loads((root / "annotations.json").read_text())
        for entry in content["images"]:
            entry["height"], entry["width"] = size
        (root / "annotations.json").write_text(json.dumps(content))
        image = Image.new("RGB", (8, 6))
        image.getexif()[0x0112] = 6  # to be turned clockwise: the top row becomes the right column
        image.save(root / "images" / "a.png", exif=image.getexif())
        samples = MaskFolder(root=str(root), image_size="native").load_split("train")
        mask = samples.read(0)[-1]
        assert mask.shape == (8, 6)
        wanted = torch.zeros(8, 6, dtype=torch.uint8)
        if size == (8, 6):
            wanted[1:4, 1:4] = 2
        else:
            wanted[1:4, 2:5] = 2
        assert torch.equal(mask, wanted)


def test_cache_does_not_change_samples():
    root = write([annotation(7, [SQUARE])])
    content = json.loads((root / "annotations.json").read_text())
    for number in range(3, 14):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(root / "images" / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": 6, "width": 8})
        content["annotations"].append(annotation(3, [SQUARE], image=number))
    (root / "annotations.json").write_text(json.dumps(content))
    modules = [MaskFolder(root=str(root), image_size=(6, 9), cache=cache) for cache in ("none", "ram", "disk")]
    for data in modules:
        data.setup("fit")
    for split in ("train", "val"):
        plain, *cached = (torch.stack(list(d.samples[split].fetch(range(len(d.samples[split]))))) for d in modules)
        assert all(torch.equal(plain, other) for other in cached)
