"""`--data.root` alone: the format of masks is recognised, and JSON files with boxes do not count beside masks."""

import json
from pathlib import Path

import pytest
from PIL import Image

from kit.data.description import describe
from kit.ground.errors import UserError
from project.segmentation import MaskFolder

POLYGON = [[1, 1, 9, 1, 9, 9, 1, 9]]


def coco(root: Path, segmentation: object = POLYGON) -> None:
    """A JSON file about the images of the training split."""
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 18, "width": 26} for n in range(3)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 8, 8], "segmentation": segmentation}],
        "categories": [{"id": 5, "name": "road"}],
    }
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(content))


@pytest.fixture
def root(tiny) -> Path:
    return tiny.folders(Path("scenes"), {"train": 3, "val": 1})


def test_masks_beside_polygons_are_asked_about(root):
    assert MaskFolder(str(root)).format_name == "mask files"
    coco(root)
    with pytest.raises(UserError, match=r"holds 4 masks \(masks\) and 1 JSON file \(coco\).*--data\.format masks"):
        MaskFolder(str(root))
    assert MaskFolder(str(root), format="masks").class_names == ["sky", "road", "car"]
    assert MaskFolder(str(root), format="coco").class_names == ["background", "road"]
    assert MaskFolder(str(root), train="train/_annotations.coco.json").class_names == ["background", "road"]


@pytest.mark.parametrize("segmentation", [[], None])
def test_boxes_beside_masks_do_not_count(root, segmentation):
    coco(root, segmentation)
    assert MaskFolder(str(root)).format_name == "mask files"


def test_other_json_file_does_not_hide_a_fault_in_the_masks(root):
    Image.new("L", (26, 18)).save(root / "trainannot" / "0.bmp")
    (root / "meta.json").write_text(json.dumps({"author": "x"}))
    with pytest.raises(UserError, match="belong to the same image"):
        MaskFolder(str(root))


def test_polygons_without_masks_are_recognised(tiny, root):
    coco(root)
    for file in root.glob("*annot/*"):
        file.unlink()
    assert MaskFolder(str(root)).format_name == "COCO"


@pytest.mark.parametrize("kind", ["index", "palette", "coloured"])
def test_kinds_of_masks_are_recognised(tmp_path, kind):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{number}.png")
        mask = Image.new("RGB" if kind == "coloured" else "L", (40, 30))
        mask.putpixel((3, 4), (1, 2, 3) if kind == "coloured" else 1)
        if kind == "palette":
            mask.putpalette([0, 0, 0, 1, 2, 3])
        mask.save(tmp_path / "masks" / f"{number}.png")
    colors = {"a": [0, 0, 0], "b": [1, 2, 3]} if kind == "coloured" else None
    data = MaskFolder(str(tmp_path), colors=colors)
    assert describe(data, data.load_splits(), False).startswith("data: mask files, 2 images")


@pytest.mark.parametrize(
    "option", [{"ids": [0, 1]}, {"colors": {"a": [1, 2, 3]}}, {"ignore": [3]}, {"class_names": ["a"]}]
)
def test_options_of_mask_files_are_refused_for_coco(root, option):
    coco(root)
    with pytest.raises(UserError, match=rf"data\.{next(iter(option))} belongs to masks, but .* coco"):
        MaskFolder(str(root), format="coco", **option)
    with pytest.raises(UserError, match=r"data\.crowds belongs to coco"):
        MaskFolder(str(root), format="masks", crowds="objects")


def test_size_is_chosen_native_or_that_of_the_checkpoint(root):
    for file in root.glob("train/*.png"):
        Image.new("RGB", (200, 100)).save(file)
        Image.new("L", (200, 100)).save(root / "trainannot" / file.name)
    data = MaskFolder(str(root))
    assert data.input_size == (96, 192) and data.load_split("train").shape == (4, 96, 192)
    native = MaskFolder(str(root), image_size="native")
    assert native.input_size is None and native.load_split("train").read(0).shape == (4, 100, 200)
    state = {"mean": [0.5] * 3, "std": [1.0] * 3, "in_channels": 3, "class_names": ["sky", "road", "car"]}
    for one, size in ((data, (32, 48)), (native, None)):
        one.load_state_dict({**state, "size": [32, 48]})
        assert one.input_size == size
