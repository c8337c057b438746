"""Each fault planted is found, and clean data have none."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.checks.survey import full_survey, quick_survey
from kit.formats.masks import masks
from kit.ground.errors import BrokenFiles, UserError
from project.segmentation import MaskFolder


@pytest.fixture
def root(tiny) -> Path:
    return tiny.folders(Path("scenes"), {"train": 6, "val": 3})


def kinds(root: Path, **options) -> list[tuple[str, str, str]]:
    faults = list(MaskFolder(root=str(root), **options).annotation_faults())
    assert all(fault.message and "\n" not in fault.message for fault in faults)
    return [(fault.kind, fault.severity, Path(fault.file).name) for fault in faults]


def test_clean_masks_have_no_faults(root):
    assert kinds(root) == []


def saved(ids: np.ndarray, **options):
    return lambda path: Image.fromarray(ids).save(path, **options)


def ids(height: int = 18, width: int = 26, value: int = 0, corner: int = 0) -> np.ndarray:
    plane = np.full((height, width), value, np.uint8)
    plane[0, 0] = corner
    return plane


PLANTS = {
    "mask-missing": (Path.unlink, "error", "4.png"),
    "image-missing": (lambda path: path.with_name("99.png").write_bytes(path.read_bytes()), "warning", "99.png"),
    "mask-size-mismatch": (saved(ids(26, 18)), "error", "4.png"),
    "mask-id-unknown": (saved(ids(corner=77)), "error", "4.png"),
    "mask-all-ignored": (saved(ids(value=255, corner=3)), "warning", "4.png"),
    "mask-colour-unknown": (saved(np.stack([ids(), ids(value=9), ids()], -1)), "error", "4.png"),
    "annotation-unreadable": (lambda path: path.write_bytes(path.read_bytes()[:50]), "error", "4.png"),
}


@pytest.mark.parametrize("kind", PLANTS)
def test_each_planted_fault_is_found(root, kind):
    plant, severity, name = PLANTS[kind]
    plant(root / "trainannot" / "4.png")
    assert kinds(root) == [(kind, severity, name)]


def test_jpeg_is_no_mask(root):
    (root / "trainannot" / "4.png").unlink()
    Image.fromarray(ids()).save(root / "trainannot" / "4.jpg")
    assert kinds(root) == [("annotation-unreadable", "error", "4.jpg")]


def test_split_with_unmatched_masks(root):
    for path in (root / "valannot").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    wanted = [("mask-missing", "error", f"{n}.png") for n in range(3)]
    wanted += [("image-missing", "warning", f"x{n}.png") for n in range(3)]
    assert kinds(root) == wanted
    with pytest.raises(UserError, match=r"val of scenes: 3 images and 3 masks.*0\.png.*x0\.png"):
        MaskFolder(root=str(root)).setup("fit")
    for path in (root / "valannot").iterdir():
        path.unlink()
    assert kinds(root) == wanted[:3]
    with pytest.raises(UserError, match=r"val of scenes: 3 images and 0 masks.*val/0\.png"):
        MaskFolder(root=str(root)).setup("fit")


def test_test_split_without_masks_is_left_out_with_a_message(root):
    (root / "val").rename(root / "test")
    for path in (root / "valannot").iterdir():
        path.unlink()
    assert kinds(root) == [("mask-missing", "warning", f"{n}.png") for n in range(3)]
    with pytest.warns(UserWarning, match=r"3 image\(s\) of test without a mask are left out"):
        assert MaskFolder(root=str(root)).load_split("test") is None


def test_smaller_mask_with_the_same_aspect_is_a_warning(root):
    Image.fromarray(ids(9, 13)).save(root / "trainannot" / "4.png")
    assert kinds(root) == [("mask-size-mismatch", "warning", "4.png")]


def test_message_names_the_ids(root):
    Image.fromarray(ids(value=7, corner=77)).save(root / "trainannot" / "4.png")
    (fault,) = MaskFolder(root=str(root)).annotation_faults()
    assert fault.message == "ids 7, 77 of no class; give --data.class_names or --data.ids, or add them to --data.ignore"


def test_unknown_colours_are_found_in_every_mask(root):
    (root / "classes.txt").unlink()
    for path in root.glob("*annot/*.png"):
        Image.new("RGB", (26, 18), (1, 2, 3)).save(path)
    assert {kind for kind, *_ in kinds(root)} == {"mask-colour-unknown"} and len(kinds(root)) == 9


SQUARE = [[1, 1, 5, 1, 5, 4, 1, 4]]


def coco(change) -> list[tuple[str, str, str]]:
    """What is found after `change(content, images folder)`."""
    folder = Path("root/images")
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (8, 6)).save(folder / f"{number}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 6, "width": 8} for n in range(3)],
        "categories": [{"id": 5, "name": "cell"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 5, "segmentation": SQUARE} for n in range(3)],
    }
    change(content, folder)
    Path("root/instances.json").write_text(json.dumps(content))
    faults = list(MaskFolder(root="root").annotation_faults())
    return [(fault.kind, fault.severity, Path(fault.file).name) for fault in faults]


def change(part: str, **values):
    return lambda content, folder: content[part][1].update(values)


WHOLE = {"segmentation": {"size": [6, 8], "counts": [0, 48]}, "iscrowd": 1}
COCO_PLANTS = [
    (change("annotations"), []),
    (change("annotations", category_id=6), [("class-unknown", "error", "instances.json")]),
    (change("annotations", image_id=9), [("image-missing", "error", "instances.json")]),
    (change("annotations", segmentation=[[1, 1, 2, 2]]), [("annotation-unreadable", "error", "instances.json")]),
    (change("annotations", segmentation={"size": [6, 8]}), [("annotation-unreadable", "error", "instances.json")]),
    (
        change("annotations", segmentation={"size": [5, 8], "counts": [40]}),
        [("annotation-unreadable", "error", "1.png")],
    ),
    (
        change("annotations", **WHOLE),
        [("crowd", "warning", "instances.json"), ("mask-all-ignored", "warning", "1.png")],
    ),
    (change("images", height=7), [("mask-size-mismatch", "error", "1.png")]),
    (lambda _, folder: (folder / "1.png").unlink(), []),  # `check` itself reports missing images
    (lambda _, folder: Image.new("RGB", (8, 6)).save(folder / "new.png"), [("mask-missing", "warning", "new.png")]),
]


UNREADABLE = [
    [[1, 2, None, 4, 5, 6]],
    [[1, 2, float("nan"), 4, 5, 6]],
    [[1, 2, float("inf"), 4, 5, 6]],
    [[1, 2, 1e8, 4, 5, 6]],
    [[1, 2, 10**400, 4, 5, 6]],
    [[1, 2, "x", 4, 5, 6]],
    [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]],
    [1, 2, 3, 4, 5, 6],
    5,
    "text",
    {"size": [6, 8], "counts": None},
    {"size": None, "counts": [48]},
    {"size": [6, 8], "counts": ["x", 40]},
    {"size": [6, 8], "counts": [0, 10**12]},
]
COCO_PLANTS += [
    (change("annotations", segmentation=one), [("annotation-unreadable", "error", "instances.json")])
    for one in UNREADABLE
]
COCO_PLANTS += [
    (change("annotations", image_id=[]), [("annotation-unreadable", "error", "instances.json")]),
    (change("images", height="6", width=8.0), []),
    (change("images", height=10**9), [("annotation-unreadable", "error", "instances.json")]),
]
# Polygons that can be drawn, and should not be as they are.
for polygon, kind, severity in [
    ([20, 20, 30, 20, 30, 30], "mask-out-of-bounds", "error"),
    ([-5, 1, -1, 1, -1, 4], "mask-out-of-bounds", "error"),
    ([5, 1, 12, 1, 12, 4], "mask-out-of-bounds", "warning"),
    ([5, 1, 9, 1, 9, 4], "", ""),
    ([0.1, 0.1, 0.9, 0.1, 0.9, 0.9], "mask-wrong-unit", "error"),
    ([2, 2, 2, 2, 2, 2], "mask-empty", "warning"),
    ([2, 2, 5, 2, 2, 2], "mask-empty", "warning"),
]:
    COCO_PLANTS.append((change("annotations", segmentation=[polygon]), [(kind, severity, "1.png")] if kind else []))
EMPTY = {"size": [6, 8], "counts": [48]}
COCO_PLANTS.append((change("annotations", segmentation=EMPTY), [("mask-empty", "warning", "1.png")]))


@pytest.mark.parametrize(("plant", "wanted"), COCO_PLANTS)
def test_each_planted_fault_is_found_in_coco(plant, wanted):
    assert coco(plant) == wanted


def test_copies_with_different_masks_are_a_conflict(root):
    for folder in (root / "train", root / "trainannot"):
        for name in ("7.png", "8.png", "9.png"):
            (folder / name).write_bytes((folder / "1.png").read_bytes())
    saved(ids(corner=2))(root / "trainannot" / "8.png")
    (root / "trainannot" / "9.png").write_bytes(b"broken")
    data = MaskFolder(root=str(root), class_names=["sky", "road", "car"], mean=[0.5] * 3, std=[1.0] * 3)
    conflicts = [fault for fault in quick_survey(data).faults if fault.kind == "label-conflict"]
    assert [(Path(fault.file).name, Path(fault.other).name) for fault in conflicts] == [("8.png", "1.png")]
    assert "labelled differently" in conflicts[0].message
    (root / "trainannot" / "9.png").unlink()
    kinds = {(fault.kind, Path(fault.file).name) for fault in full_survey(MaskFolder(root=str(root))).faults}
    assert ("label-conflict", "8.png") in kinds and ("duplicate", "7.png") in kinds


@pytest.mark.parametrize("height", [None, 0, 10**9])
def test_invalid_size_in_coco_is_replaced_by_that_of_the_image(height):
    coco(change("images", height=height))
    data = MaskFolder(root="root", image_size="native")
    assert data.load_split("train").read(1).shape == (4, 6, 8) and len(data.reader.document("train").faults) <= 1


def test_invalid_shape_is_reported():
    folder = Path("root/images")
    coco(change("annotations", segmentation=[[2, 2, 2, 2, 2, 2]]))
    (fault,) = MaskFolder(root="root").annotation_faults()
    assert fault.file == str(folder / "1.png") and fault.message.startswith("annotation 1 of 1.png: covers no pixel")


def test_rare_class_is_not_reported_as_missing(tiny, monkeypatch):
    monkeypatch.setattr(masks, "COUNTED_MASKS", 3)  # of 7 those at 0, 3 and 6
    root = tiny.folders(Path("few"), {"train": 7}, size=(4, 6))
    for number in range(7):
        Image.fromarray(ids(4, 6, value=1, corner=0)).save(root / "trainannot" / f"{number}.png")
    Image.fromarray(ids(4, 6, value=1, corner=2)).save(root / "trainannot" / "4.png")
    assert MaskFolder(root=str(root)).class_counts == [6, 7 * 23, 1]
    Image.fromarray(np.array([[0, 1, 2, 99]], np.uint8)).resize((6, 4), 0).save(root / "trainannot" / "4.png")
    data = MaskFolder(root=str(root))
    assert min(data.count_classes(data.split("train"))) > 0  # 99 is no class's, the others there count


def test_unknown_ids_do_not_make_classes_missing(root):
    for path in root.glob("*annot/*.png"):
        Image.fromarray(ids(value=9, corner=1)).save(path)
    data = MaskFolder(root=str(root), class_names=["a", "b", "c"], mean=[0.5] * 3, std=[1.0] * 3)
    assert data.count_classes(data.split("train")) == [-1, 6, -1]
    found = {fault.kind for fault in full_survey(data).faults}
    assert "mask-id-unknown" in found and "class-missing" not in found
    for path in root.glob("*annot/*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(BrokenFiles, match="6 of 6 images of train"):
        _ = MaskFolder(root=str(root), class_names=["a", "b", "c"]).class_counts


def test_classes_beside_an_invalid_shape_are_counted():
    def second(content, _):
        content["categories"].append({"id": 6, "name": "rim"})
        content["annotations"][1] |= {"category_id": 6}
        content["annotations"].append({"id": 9, "image_id": 1, "category_id": 5})
        content["annotations"][3]["segmentation"] = {"size": [5, 8], "counts": [40]}

    assert coco(second) == [("annotation-unreadable", "error", "1.png")]
    data = MaskFolder(root="root")
    assert data.count_classes(data.split("train")) == [3 * 36, 24, 12]
    assert (
        data.class_counts == [2 * 36, 24, 0]
        and "run lengths for an image" in data.left_out["train"]["root/images/1.png"]
    )


TURNED = [  # the stored size, orientation, and the mask's size
    ((18, 26), 1, (18, 26), ""),
    ((18, 26), 3, (18, 26), "mask is not turned"),
    ((20, 20), 6, (20, 20), "mask is not turned"),
    ((18, 26), 6, (26, 18), ""),
    ((18, 26), 6, (18, 26), "so it is turned, too"),
]


@pytest.mark.parametrize(("stored", "orientation", "drawn", "said"), TURNED)
def test_rotation_by_exif_is_reported(root, stored, orientation, drawn, said):
    image = Image.new("RGB", stored[::-1])
    image.getexif()[0x0112] = orientation
    image.save(root / "train" / "4.png", exif=image.getexif())
    Image.fromarray(ids(*drawn)).save(root / "trainannot" / "4.png")
    content = {
        "images": [{"id": 4, "file_name": "4.png", "height": drawn[0], "width": drawn[1]}],
        "categories": [{"id": 5, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 5, "segmentation": SQUARE}],
    }
    (root / "train.json").write_text(json.dumps(content))
    in_folders = list(MaskFolder(root=str(root), format="masks").annotation_faults())
    in_coco = [
        fault for fault in MaskFolder(root=str(root), format="coco").annotation_faults() if fault.kind != "mask-missing"
    ]
    for faults in (in_folders, in_coco):
        assert [(fault.kind, fault.severity) for fault in faults] == [("exif-rotated-mask", "warning")] * bool(said)
        assert all(said in fault.message for fault in faults)
