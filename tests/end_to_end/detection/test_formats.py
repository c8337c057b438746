"""The formats against each other, the layouts that people have them in, and what can be wrong in each."""

import base64
import io
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.checks.report import survey_page
from kit.checks.survey import Survey
from kit.data.decode import decode
from kit.ground.errors import BrokenFiles, UserError
from project.detection import BoxFolder

KINDS = ["coco", "voc", "yolo"]
UNDECIDED = ("box-duplicated", "exif-rotated-boxes")  # what may be meant in scenes drawn at random


def write(tiny, kind, root: Path, some) -> None:
    """All in one folder of images, and the boxes beside or below."""
    tiny.save(root / "images", some)
    if kind == "coco":
        tiny.coco(root / "annotations" / "instances_default.json", some)
    elif kind == "voc":
        tiny.voc(root / "Annotations", some)
    else:
        tiny.yolo(root / "labels", some)
        (root / "classes.txt").write_text("\n".join(tiny.CLASSES))


def found(data, split: str = "train") -> dict[str, tuple]:
    """By the image's name: its size, and each box with its class."""
    samples = data.load_split(split)
    return {
        Path(samples.file(i)).name: (
            target["size"],
            sorted(
                (data.class_names[label - 1], *(round(v, 2) for v in box), crowd)
                for box, label, crowd in zip(
                    target["boxes"].tolist(), target["labels"].tolist(), target["crowd"].tolist(), strict=True
                )
            ),
        )
        for i, target in enumerate(samples.targets)
    }


def written(some) -> dict[str, tuple]:
    return {
        p.name: (
            p.size,
            sorted(
                (name, *map(float, box), bool(crowd))
                for box, name, crowd in zip(p.boxes, p.names, p.crowd or [False] * len(p.boxes), strict=True)
            ),
        )
        for p in some
    }


@st.composite
def scenes(draw):
    """Sizes, boxes, classes and how EXIF turns them, as arguments of `Picture`."""
    height, width = draw(st.tuples(st.integers(8, 40), st.integers(8, 40)))
    boxes, names = [], []
    for _ in range(draw(st.integers(1, 4))):
        x1, y1 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
        names.append(draw(st.sampled_from(["cat", "dog", "owl"])))
    return {"size": (height, width), "boxes": boxes, "names": names, "orientation": draw(st.integers(1, 8))}


@settings(max_examples=20)
@given(st.lists(scenes(), min_size=1, max_size=3))
def test_all_formats_give_the_same_samples(tiny, drawn):
    some = [tiny.Picture(name=f"{number}.jpg", **scene) for number, scene in enumerate(drawn)]
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as root:
            write(tiny, kind, Path(root), some)
            data = BoxFolder(root=root)
            assert found(data) == written(some), kind
            wrong = [fault for fault in data.annotation_faults() if fault.kind not in UNDECIDED]
            assert not wrong, kind


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_boxes_of_the_unrotated_image_are_rotated(tiny, tmp_path, kind, orientation):
    """Identity by pixels: the box is where the white rectangle is that was painted into the file."""
    box = (3, 5, 9, 16)  # of an image that lies in its file 20 high and 30 wide
    raw = np.zeros((20, 30, 3), np.uint8)
    raw[box[1] : box[3], box[0] : box[2]] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.fromarray(raw).save(tmp_path / "images" / "1.png", exif=exif)
    as_it_lies = tiny.Picture("1.png", (20, 30), [box], ["cat"])
    if kind == "coco":
        tiny.coco(tmp_path / "annotations.json", [as_it_lies])
    else:
        tiny.voc(tmp_path / "Annotations", [as_it_lies])
    data = BoxFolder(root=str(tmp_path))
    with pytest.warns(UserWarning, match="exif-rotated-boxes 1"):
        samples = data.load_split("train")
    seen = decode(tmp_path / "images" / "1.png", 1, None)[0]
    rows, columns = seen.amax(1).nonzero()[:, 0], seen.amax(0).nonzero()[:, 0]
    painted = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert samples.targets[0]["size"] == tuple(seen.shape) == (30, 20)
    assert samples.targets[0]["boxes"][0].tolist() == [float(edge) for edge in painted]
    assert [fault.kind for fault in data.annotation_faults()] == ["exif-rotated-boxes"]


@pytest.mark.parametrize(
    ("kind", "size", "orientation", "faults"),
    [
        *((kind, (24, 30), 1, 0) for kind in KINDS),
        *((kind, (24, 30), 3, 1) for kind in KINDS),
        *((kind, (30, 30), 6, 1) for kind in KINDS),
        ("coco", (24, 30), 6, 0),
        ("voc", (24, 30), 6, 0),
        ("yolo", (24, 30), 6, 1),
        ("yolo", (24, 30), 0, 0),
    ],
)
def test_unknown_orientation_of_boxes_is_reported(tiny, tmp_path, kind, size, orientation, faults):
    some = [tiny.Picture("1.jpg", size, orientation=orientation), tiny.Picture("2.jpg", size)]
    some.append(tiny.Picture("3.jpg", size, [], [], orientation))
    write(tiny, kind, tmp_path, some)
    data = BoxFolder(root=str(tmp_path))
    said = [fault for fault in data.annotation_faults() if fault.kind == "exif-rotated-boxes"]
    assert len(said) == faults and all("assumed to fit the upright image" in fault.message for fault in said)
    assert found(data) == written(some)


# Layouts. Each writes `train` (4 images) and `val` (2), or 6 images that are not divided.


def coco_2017(tiny, root):
    tiny.coco_parts(root, {"train": 4, "val": 2})
    (root / "annotations" / "captions_train2017.json").write_text("{}")


def coco_roboflow(tiny, root):
    for split, count in (("train", 4), ("valid", 2)):
        tiny.save(root / split, tiny.pictures(count))
        tiny.coco(root / split / "_annotations.coco.json", tiny.pictures(count))


def coco_cvat(tiny, root):
    tiny.save(root / "images" / "default", tiny.pictures(6))
    tiny.coco(root / "annotations" / "instances_default.json", tiny.pictures(6))


def coco_label_studio(tiny, root):
    some = tiny.pictures(6)
    tiny.save(root / "images", some)
    tiny.coco(root / "result.json", some)
    text = (root / "result.json").read_text()
    (root / "result.json").write_text(text.replace('"file_name": "', r'"file_name": "images\\'))


def coco_elsewhere(tiny, root):
    tiny.save(root / "some" / "where", tiny.pictures(6))
    tiny.coco(root / "mine.json", tiny.pictures(6))


def voc_lists(tiny, root):
    tiny.voc_parts(root, {"train": 4, "val": 2})


def voc_devkit(tiny, root):
    tiny.voc_parts(root / "VOC2012", {"train": 4, "val": 2})
    (root / "VOC2012" / "SegmentationClass").mkdir()
    Image.new("L", (30, 22)).save(root / "VOC2012" / "SegmentationClass" / "train_0.png")  # a mask of the same name


def voc_lower_case(tiny, root):
    tiny.save(root / "jpegimages", tiny.pictures(6))
    tiny.voc(root / "annotations", tiny.pictures(6))


def voc_roboflow(tiny, root):
    for split, count in (("train", 4), ("valid", 2)):
        tiny.save(root / split, tiny.pictures(count))
        tiny.voc(root / split, tiny.pictures(count))


def voc_parts_below(tiny, root):
    for split, count in (("train", 4), ("val", 2)):
        tiny.save(root / "images" / split, tiny.pictures(count))
        tiny.voc(root / "Annotations" / split, tiny.pictures(count))


def voc_flat(tiny, root):
    tiny.save(root, tiny.pictures(6))
    tiny.voc(root, tiny.pictures(6))


def voc_cvat(tiny, root):
    tiny.voc_parts(root, {"default": 6})


def yolo_halves(tiny, root, of_images, of_labels):
    for split, count in (("train", 4), ("val", 2)):
        tiny.save(root / of_images.format(split), tiny.pictures(count))
        tiny.yolo(root / of_labels.format(split), tiny.pictures(count))


def yolo_ultralytics(tiny, root):
    yolo_halves(tiny, root / "mine", "images/{}", "labels/{}")
    names = "names:\n  0: cat\n  1: dog\n  2: owl\n"
    (root / "mine.yaml").write_text(f"path: mine\ntrain: images/train\nval: [images/val]\n{names}")


def yolo_elsewhere(tiny, root):
    """The path is another machine's."""
    yolo_halves(tiny, root, "images/{}", "labels/{}")
    (root / "data.yaml").write_text("path: /home/other\ntrain: images/train\nval: images/val\nnames: [cat, dog, owl]\n")


def yolo_roboflow(tiny, root):
    yolo_halves(tiny, root, "{}/images", "{}/labels")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../val/images\nnames: ['cat', 'dog', 'owl']\nnc: 3\n")


def yolo_list_files(tiny, root):
    yolo_halves(tiny, root, "images/{}", "labels/{}")
    for split in ("train", "val"):
        names = sorted(path.name for path in (root / "images" / split).iterdir())
        (root / f"{split}.txt").write_text("".join(f"./images/{split}/{name}\n" for name in names))
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog, owl]\n")


def yolo_cvat(tiny, root):
    for split, count in (("train", 4), ("valid", 2)):
        some, folder = tiny.pictures(count, f"{split}_"), f"obj_{split}_data"
        tiny.save(root / folder, some)
        tiny.yolo(root / folder, some)
        (root / f"{split}.txt").write_text("".join(f"data/{folder}/{p.name}\n" for p in some))
    (root / "obj.names").write_text("cat\ndog\nowl\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\n"
    (root / "obj.data").write_text(f"classes = 3\n{lists}names = data/obj.names\nbackup = backup/\n")


def yolo_labelimg(tiny, root):
    tiny.save(root, tiny.pictures(6))
    tiny.yolo(root, tiny.pictures(6))
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


def yolo_folders(tiny, root):
    yolo_halves(tiny, root, "{}/images", "{}/labels")
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


def yolo_with_years(tiny, root):
    yolo_halves(tiny, root, "images/{}2017", "labels/{}2017")
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


LAYOUTS = [
    *(("coco", write) for write in (coco_2017, coco_roboflow, coco_cvat, coco_label_studio, coco_elsewhere)),
    *(("voc", write) for write in (voc_lists, voc_devkit, voc_lower_case, voc_roboflow, voc_parts_below, voc_flat)),
    ("voc", voc_cvat),
    *(("yolo", write) for write in (yolo_ultralytics, yolo_elsewhere, yolo_roboflow, yolo_list_files, yolo_cvat)),
    *(("yolo", write) for write in (yolo_labelimg, yolo_folders, yolo_with_years)),
]


@pytest.mark.parametrize(("kind", "layout"), LAYOUTS, ids=lambda value: getattr(value, "__name__", None))
def test_layout_is_found_from_the_root(tiny, tmp_path, kind, layout):
    layout(tiny, tmp_path)
    data = BoxFolder(root=str(tmp_path))
    assert data.class_names == tiny.CLASSES
    divided = data.load_split("val") is not None
    train = found(data)
    assert len(train) == (4 if divided else 6)
    expected = written(tiny.pictures(len(train)))
    assert sorted(train.values()) == sorted(expected.values())
    if divided:
        assert len(found(data, "val")) == 2
        assert not set(data.load_split("val").paths) & set(data.load_split("train").paths)
    assert list(data.annotation_faults()) == []


def test_ambiguous_layouts_are_refused(tiny, tmp_path):
    for name in ("a.json", "b.json"):
        tiny.coco(tmp_path / name, tiny.pictures(2))
    with pytest.raises(UserError, match=r"which of a\.json, b\.json is for train\?.* --data\.train FILE"):
        BoxFolder(root=str(tmp_path))
    tiny.save(tmp_path / "x", tiny.pictures(2))
    assert len(BoxFolder(root=str(tmp_path), train="b.json", images="x").load_split("train")) == 2
    for year in ("VOC2007", "VOC2012"):
        tiny.voc_parts(tmp_path / "kit" / year, {"train": 1})
    with pytest.raises(UserError, match=r"VOC2007/.*VOC2012/.*--data\.root"):
        BoxFolder(root=str(tmp_path / "kit"))
    yolo_folders(tiny, tmp_path / "y")
    for name in ("a.yaml", "b.yml"):
        (tmp_path / "y" / name).write_text("train: train/images\nnames: [cat, dog, owl]\n")
    with pytest.raises(UserError, match=r"several YAML files.*a\.yaml"):
        BoxFolder(root=str(tmp_path / "y"))
    assert len(BoxFolder(root=str(tmp_path / "y" / "b.yml")).load_split("train")) == 4
    for name in ("a.yaml", "b.yml", "classes.txt"):
        (tmp_path / "y" / name).unlink()
    with pytest.raises(UserError, match=r"names the classes.*--data\.names"):
        BoxFolder(root=str(tmp_path / "y"))
    assert BoxFolder(root=str(tmp_path / "y"), names=["a", "b", "c"]).class_names == ["a", "b", "c"]


def test_slightly_too_large_boxes_are_not_corners(tiny, tmp_path):
    """Each would lie in the image were its size a corner, but taken so, two stick out by three pixels alone."""
    boxes = [(5, 5, 25, 25), (4, 3, 67, 43), (6, 5, 67, 51)]
    some = [tiny.Picture("1.jpg", (48, 64), boxes, ["cat"] * 3)]
    tiny.save(tmp_path, some)
    tiny.coco(tmp_path / "all.json", some)
    data = BoxFolder(root=str(tmp_path))
    assert data.load_split("train").targets[0]["boxes"].tolist() == [[5, 5, 25, 25], [4, 3, 64, 43], [6, 5, 64, 48]]
    assert [fault.kind for fault in data.annotation_faults()] == ["box-out-of-bounds"] * 2


def test_coco_crowds_id_gaps_parents_and_empty_images(tiny, tmp_path):
    some = [tiny.Picture("1.jpg", crowd=[True, False]), tiny.Picture("2.jpg", boxes=[], names=[])]
    some.append(tiny.Picture("3.jpg"))
    tiny.save(tmp_path, some)
    ids = {"pets": 0, "cat": 3, "dog": 90}
    categories = [{"id": i, "name": name, "supercategory": "pets" if i else "none"} for name, i in ids.items()]
    tiny.coco(tmp_path / "some.json", some, ids, categories=categories[::-1])
    data = BoxFolder(root=str(tmp_path))
    assert data.class_names == ["cat", "dog"]
    assert found(data) == written(some)
    assert data.load_split("train").targets[1]["boxes"].shape == (0, 4)
    assert data.class_counts == [1, 2]
    tiny.voc(tmp_path / "xml", some)
    assert found(BoxFolder(root=str(tmp_path), format="voc")) == written(
        some
    )  # difficult objects are ignored as crowds are


def test_yolo_polygons_and_poses(tiny, tmp_path):
    tiny.Picture("1.jpg", (20, 40)).save(tmp_path)
    (tmp_path / "1.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert BoxFolder(root=str(tmp_path)).load_split("train").targets[0]["boxes"].tolist() == [[10, 5, 30, 15]]
    (tmp_path / "data.yaml").write_text("train: .\nkpt_shape: [2, 2]\nnames: {0: cat, 1: dog}\n")
    assert BoxFolder(root=str(tmp_path)).load_split("train").targets[0]["boxes"].tolist() == [[0, 7.5, 20, 12.5]]


# Faults: a change of clean data, and the kind that must then be found, of which there was none before.


def put(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def change_json(root: Path, change) -> None:
    file = root / "annotations" / "instances_default.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def bbox(*values):
    return lambda root: change_json(root, lambda content: content["annotations"][0].update(bbox=list(values)))


def corners(root: Path) -> None:
    def change(content):
        for number, one in enumerate(content["annotations"]):
            one["bbox"] = [10 + number, 8, 17 + number, 20]

    change_json(root, change)


def shares(root: Path) -> None:
    def change(content):
        for one in content["annotations"]:
            one["bbox"] = [0.1, 0.2, 0.5, 0.4] if one["id"] else [0, 0, 1, 1]

    change_json(root, change)


def shares_in_xml(root: Path) -> None:
    for tag, value, share in (
        ("xmin", "2.0", "0.1"),
        ("ymin", "3.0", "0"),
        ("xmax", "14.0", "1"),
        ("ymax", "15.0", "1"),
    ):
        xml(0, f"<{tag}>{value}", f"<{tag}>{share}")(root)


def lose_image(root: Path) -> None:
    (root / "images" / "2.jpg").unlink()


def add_image(root: Path) -> None:
    Image.new("RGB", (30, 22)).save(root / "images" / "new.jpg")


def resize(root: Path) -> None:
    Image.new("RGB", (60, 44)).save(root / "images" / "0.jpg")


def xml(number: int, old: str, new: str):
    return lambda root: put(root / "Annotations" / f"{number}.xml", old, new)


def text(number: int, content: str):
    return lambda root: (root / "labels" / f"{number}.txt").write_text(content)


FAULTS = [  # format, kind, change, where, line
    ("coco", "box-out-of-bounds", bbox(20, 3, 30, 5), "0.jpg", None),
    ("coco", "box-out-of-bounds", bbox(120, 3, 30, 5), "0.jpg", None),
    ("coco", "box-without-area", bbox(20, 3, 0, 5), "0.jpg", None),
    ("coco", "box-corners-swapped", bbox(20, 3, -5, 5), "0.jpg", None),
    ("coco", "box-wrong-unit", corners, "instances_default.json", None),
    ("coco", "box-wrong-unit", shares, "1.jpg", None),
    ("coco", "box-duplicated", lambda root: change_json(root, lambda c: c["annotations"].append(c["annotations"][0])),
     "0.jpg", None),
    ("coco", "image-missing", lose_image, "instances_default.json", None),
    ("coco", "annotation-missing", add_image, "new.jpg", None),
    ("coco", "size-mismatch", resize, "0.jpg", None),
    ("coco", "class-unknown", lambda root: change_json(root, lambda c: c["annotations"][0].update(category_id=7)),
     "instances_default.json", None),
    ("coco", "annotation-unreadable", bbox(1, 2, 3), "0.jpg", None),
    ("coco", "annotation-unreadable", lambda root: put(root / "annotations/instances_default.json", "{", "{{"),
     "instances_default.json", 1),
    ("voc", "box-out-of-bounds", xml(1, "<xmax>14.0", "<xmax>44"), "1.xml", 8),
    ("voc", "box-without-area", xml(1, "<xmax>14.0", "<xmax>2"), "1.xml", 8),
    ("voc", "box-corners-swapped", xml(1, "<xmax>14.0", "<xmax>1"), "1.xml", 8),
    ("voc", "box-wrong-unit", shares_in_xml, "0.xml", 8),
    ("voc", "image-missing", lose_image, "2.xml", None),
    ("voc", "annotation-missing", add_image, "new.jpg", None),
    ("voc", "size-mismatch", resize, "0.xml", None),
    ("voc", "annotation-unreadable", xml(1, "</size>", ""), "1.xml", 28),
    ("voc", "annotation-unreadable", xml(1, "14.0", "wide"), "1.xml", 8),
    ("yolo", "box-out-of-bounds", text(1, "0 0.9 0.5 0.4 0.2\n"), "1.txt", 1),
    ("yolo", "box-without-area", text(1, "\n0 0.9 0.5 0 0.2\n"), "1.txt", 2),
    ("yolo", "box-corners-swapped", text(1, "0 0.5 0.5 -0.2 0.2\n"), "1.txt", 1),
    ("yolo", "box-duplicated", text(1, "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"), "1.txt", 2),
    ("yolo", "box-wrong-unit", text(1, "0 12 10 4 8\n"), "1.txt", 1),
    ("yolo", "image-missing", lose_image, "2.txt", None),
    ("yolo", "annotation-missing", add_image, "new.jpg", None),
    ("yolo", "class-unknown", text(1, "0 0.5 0.5 0.2 0.2\n3 0.5 0.5 0.2 0.2\n"), "1.txt", 2),
    ("yolo", "annotation-unreadable", text(1, "0 0.5 0.5 0.2\n"), "1.txt", 1),
    ("yolo", "annotation-unreadable", text(1, "cat 0.5 0.5 0.2 0.2\n"), "1.txt", 1),
    ("yolo", "annotation-unreadable", text(1, "0 0.5 0.5 0.2 nan\n"), "1.txt", 1),
    ("yolo", "annotation-unreadable", text(1, "0_0 0.5 0.5 0.2 0.2\n"), "1.txt", 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fault", "change", "file", "line"), FAULTS)
def test_each_planted_fault_is_found(tiny, tmp_path, kind, fault, change, file, line):
    write(tiny, kind, tmp_path, tiny.pictures(6))
    assert list(BoxFolder(root=str(tmp_path)).annotation_faults()) == []
    change(tmp_path)
    faults = list(BoxFolder(root=str(tmp_path)).annotation_faults())
    assert {one.kind for one in faults} - {"unusable"} == {fault}
    assert faults[0].file.endswith(file) and faults[0].line == line
    assert faults[0].message and "\n" not in faults[0].message
    if kind != "coco" and line not in (None, 28):  # 28 is where broken XML ends
        assert Path(faults[0].image) == tmp_path / "images" / f"{Path(file).stem}.jpg"
    if fault in ("annotation-unreadable", "class-unknown"):
        with pytest.raises(UserError, match=file):
            BoxFolder(root=str(tmp_path)).load_split("train")
    elif "unusable" in {one.kind for one in faults}:
        with pytest.raises(UserError, match="most of train cannot be used"):
            BoxFolder(root=str(tmp_path)).load_split("train")
    elif kind == "coco" and fault == "annotation-missing":
        assert BoxFolder(root=str(tmp_path)).load_split("train") is not None
    else:
        with pytest.warns(UserWarning, match=f"train: {fault} [1-9]"):
            samples = BoxFolder(root=str(tmp_path)).load_split("train")
        for target in samples.targets:
            boxes, (height, width) = target["boxes"], target["size"]
            assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            assert (boxes <= torch.tensor([width, height] * 2)).all()
            assert len(boxes) == len(target["labels"]) == len(target["crowd"])


def test_run_stops_if_no_usable_box_is_left(tiny, tmp_path):
    write(tiny, "yolo", tmp_path, tiny.pictures(3))
    for number in range(3):
        text(number, "0 12 10 4 8\n0 13 10 4 8\n")(tmp_path)
    with pytest.raises(UserError, match=r"most of train cannot be used .*box-wrong-unit 6"):
        BoxFolder(root=str(tmp_path)).load_split("train")
    text(1, "0 0.5 0.5 0.2 0.2\n5 0.5 0.5 0.1 0.1\n")(tmp_path)
    with pytest.raises(UserError, match=r"labels/1\.txt:2: class 5, but classes are 0 to 2"):
        BoxFolder(root=str(tmp_path)).load_split("train")
    for number in range(3):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(b"nothing")
        text(number, "0 0.5 0.5 0.2 0.2\n")(tmp_path)
    with pytest.raises(BrokenFiles, match=r"3 of 3 images(.|\n)*2\.jpg: not an image"):
        BoxFolder(root=str(tmp_path)).class_counts  # noqa: B018
    (tmp_path / "broken").mkdir()
    tiny.coco(tmp_path / "broken" / "train.json", tiny.pictures(1)).write_text('{\n"images": [}')
    with pytest.raises(UserError, match=r"train\.json:2: broken JSON"):
        BoxFolder(root=str(tmp_path / "broken")).class_names  # noqa: B018
    (tmp_path / "broken" / "train.json").write_text("[]")
    with pytest.raises(UserError, match=r"train\.json: no list of images and annotations and categories"):
        BoxFolder(root=str(tmp_path / "broken")).class_names  # noqa: B018
    for kind in (None, *KINDS):
        with pytest.raises(UserError, match=r"nowhere.*--data\.root"):
            BoxFolder(root="nowhere", format=kind)
        Path("empty").mkdir(exist_ok=True)
        with pytest.raises(UserError):
            BoxFolder(root="empty", format=kind).class_names  # noqa: B018


def test_run_without_boxes_stops(tiny, tmp_path):
    yolo_halves(tiny, tmp_path, "images/{}", "elsewhere/{}")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog, owl]\n")
    with pytest.raises(
        UserError, match=r"train has no box to learn from \(annotation-missing 4\); .* in .*labels/train/0\.txt"
    ):
        BoxFolder(root=str(tmp_path)).class_counts  # noqa: B018
    (tmp_path / "elsewhere").rename(tmp_path / "labels")
    assert sum(BoxFolder(root=str(tmp_path)).class_counts) == 7


def test_labels_folder_in_upper_or_lower_case(tiny, tmp_path):
    tiny.save(tmp_path / "Images" / "TRAIN", tiny.pictures(3))
    tiny.yolo(tmp_path / "Labels" / "TRAIN", tiny.pictures(3))
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    assert found(BoxFolder(root=str(tmp_path))) == written(tiny.pictures(3))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("names:", r"names is None, but must be a list, \[cat, dog\], or by number, \{0: cat, 1: dog\}"),
        ("names: 3", "names is 3, but must be a list"),
        ("names: {}", r"names is \{\}, but must be a list"),
        ("names: []", r"names is \[\], but must be a list"),
        ("names: {a: cat}", r"names is \{'a': 'cat'\}, but must be a list"),
        ("names: cat", "names is 'cat', but must be a list"),
        ("names: [cat, [dog]]", r"names is \['cat', \['dog'\]\], but must be a list"),
        ("names: [cat, dog]\nnc: 5", "nc is 5, but there are 2 names; which is right?"),
        ("names: [cat]\nval: 3", "val is 3, but must be a folder or a list of folders"),
        ("names: [cat]\nval: {a: b}", r"val is \{'a': 'b'\}, but must be a folder"),
        ("names: [katze, b\xe4r]", ":2: not UTF-8"),
    ],
)
def test_mistakes_in_yaml_are_one_line(tiny, tmp_path, names, said):
    yolo_halves(tiny, tmp_path, "images/{}", "labels/{}")
    (tmp_path / "data.yaml").write_bytes(f"train: images/train\n{names}\n".encode("latin-1"))
    with pytest.raises(UserError, match=rf"data\.yaml.*{said}") as raised:
        BoxFolder(root=str(tmp_path))
    assert "\n" not in str(raised.value)


def test_yaml_of_another_machine(tiny, tmp_path, capsys):
    yolo_halves(tiny, tmp_path, "{}/images", "{}/labels")
    splits = "train: /content/ds/train/images\nval: D:\\ds\\val\\images\ntest: /x/images\n"
    (tmp_path / "data.yaml").write_text(f"path: /content\n{splits}names: [cat, dog, owl]\n")
    (tmp_path / "images").mkdir()
    with pytest.warns(UserWarning, match="no test images at /x/images"):
        data = BoxFolder(root=str(tmp_path))
    assert {split: len(paths) for split, paths in data.reader.sources.items()} == {"train": 4, "val": 2}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "'/content/ds/train/images'" in lines[0] and f"{tmp_path}/train/images" in lines[0]
    splits = "train: ./data/train/images\nval: ./data/val/images\n"
    (tmp_path / "data.yaml").write_text(f"{splits}names: [cat, dog, owl]\n")
    data = BoxFolder(root=str(tmp_path))
    assert {split: len(paths) for split, paths in data.reader.sources.items()} == {"train": 4, "val": 2}
    (tmp_path / "data.yaml").write_text("train: data/\nnames: [cat, dog, owl]\n")  # not all images
    with pytest.raises(UserError, match=r"data\.yaml: train is data/, but nothing is at "):
        BoxFolder(root=str(tmp_path))


def test_byte_order_mark_and_export_without_val(tiny, tmp_path):
    yolo_halves(tiny, tmp_path, "{}/images", "{}/labels")
    content = "names: [cat, dog, owl]\ntrain: ../train/images\nval: ../valid/images\n"
    (tmp_path / "data.yaml").write_text(content, encoding="utf-8-sig")
    with pytest.warns(UserWarning, match=r"data\.yaml: no val images at \.\./valid/images"):
        data = BoxFolder(root=str(tmp_path))
    assert data.class_names == tiny.CLASSES and list(data.reader.sources) == ["train"]
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n\n", encoding="utf-8-sig")
    assert BoxFolder(root=str(tmp_path)).class_names == tiny.CLASSES
    for content, line in (("cat\n\nowl\n", 2), ("cat\ndog\nb\xe4r", 3), ("\n", 1)):
        (tmp_path / "classes.txt").write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=rf"classes\.txt:{line}: "):
            BoxFolder(root=str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_report_shows_image_and_box(tiny, tmp_path, kind):
    """A picture as small as this one keeps its size, and the box has a red frame."""
    some = [tiny.Picture("1.png", (24, 30), [(3, 4, 14, 18), (10, 8, 34, 20)])]
    write(tiny, kind, tmp_path, some)
    (fault,) = BoxFolder(root=str(tmp_path)).annotation_faults()
    assert fault.kind == "box-out-of-bounds" and fault.box == pytest.approx((10, 8, 34, 20))
    assert Path(fault.image or fault.file).name == "1.png"
    page = survey_page(Survey([fault], {"train": 1}, str(tmp_path), 0.1, []))
    (shown,) = re.findall(r'data:image/jpeg;base64,([^"]+)"', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown)))).astype(int)
    assert pixels.shape == (24, 30, 3)
    red = pixels[..., 0] - pixels[..., 1:].max(-1) > 60
    assert red[8, 12:28].mean() > 0.8 and red[10:18, 10].mean() > 0.8 and red[10:18, 29].mean() > 0.5
    assert red[:, :9].mean() < 0.2 and red[:6].mean() < 0.2
