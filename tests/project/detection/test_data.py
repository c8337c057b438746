"""Samples: fitted into the size, drawn, split and counted."""

import json
import shutil

import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.boxes import Zoom
from kit.boxes.targets import collate, sample
from kit.checks.survey import full_survey, quick_survey
from kit.ground.errors import UserError
from project.detection import BoxFolder, DigitScenes


def ready(data):
    data.setup("fit")
    return data


def target(boxes, labels, size, crowd=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
        "crowd": torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
        "size": size,
    }


def test_boxes_are_fitted_like_the_image():
    """100x200 into 40x60: by 0.3, to 30x60."""
    image, made = sample(torch.zeros(3, 40, 60, dtype=torch.uint8), target([[10, 20, 110, 100]], [2], (100, 200)))
    assert torch.allclose(made["boxes"].as_subclass(torch.Tensor), torch.tensor([[3.0, 6.0, 33.0, 30.0]]))
    assert isinstance(made["boxes"], tv_tensors.BoundingBoxes) and made["boxes"].canvas_size == (40, 60)
    assert isinstance(image, tv_tensors.Image)
    assert made["original_boxes"].tolist() == [[10, 20, 110, 100]] and made["size"].tolist() == [100, 200]


def test_batch_has_plain_tensors_and_no_box_without_area():
    pixels = torch.zeros(3, 8, 9, dtype=torch.uint8)
    several, none = target([[1, 1, 4, 4], [2, 2, 2, 5]], [1, 2], (8, 9)), target([], [], (8, 9))
    images, targets = collate(*zip(*(sample(pixels, one) for one in (several, none)), strict=True))
    assert images.shape == (2, 3, 8, 9) and images.dtype == torch.uint8 and type(images) is torch.Tensor
    assert targets[0]["boxes"].tolist() == targets[0]["original_boxes"].tolist() == [[1, 1, 4, 4]]
    assert targets[0]["labels"].tolist() == [1] and targets[0]["crowd"].tolist() == [False]
    assert targets[1]["boxes"].shape == (0, 4)
    assert all(type(value) is torch.Tensor for one in targets for value in one.values())


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_files(tiny, tmp_path, cache, workers):
    tiny.voc_parts(tmp_path / "d", {"train": 4, "val": 2})
    data = BoxFolder(
        root=str(tmp_path / "d"),
        image_size=(20, 40),
        batch_size=3,
        cache=cache,
        num_workers=workers,
        augment=[v2.RandomHorizontalFlip(0.5), Zoom()],
    )
    batch = next(iter(ready(data).train_dataloader()))
    assert batch.images.shape == (3, 3, 20, 40) and len(batch.targets) == 3
    assert data.preprocessing.normalise(batch.images).is_contiguous(memory_format=torch.channels_last)
    val = next(iter(data.val_dataloader()))
    # 22x30 into 20x40: by 20/22, 27 wide
    assert torch.allclose(
        val.targets[0]["boxes"], val.targets[0]["original_boxes"] * torch.tensor([27 / 30, 20 / 22] * 2)
    )


def test_class_counts_and_strata(tiny, tmp_path):
    some = [tiny.Picture(f"{n}.jpg", names=["cat", "dog"] if n < 10 else ["cat", "cat"]) for n in range(30)]
    some += [tiny.Picture(f"{n}.jpg", boxes=[], names=[]) for n in range(30, 50)]
    some.append(tiny.Picture("crowd.jpg", names=["dog", "dog"], crowd=[True, True]))
    tiny.save(tmp_path, some)
    tiny.coco(tmp_path / "all.json", some)
    data = BoxFolder(root=str(tmp_path))
    assert data.class_counts == [50, 10, 0]
    strata = data.strata(data.load_split("train"))
    assert strata.tolist() == [2] * 10 + [1] * 20 + [0] * 21
    ready(data)
    assert sorted(data.strata(data.samples["val"]).tolist()) == [0, 0, 1, 1, 2]
    ready(BoxFolder(root=str(tmp_path), balanced=True)).train_dataloader()
    with pytest.raises(UserError, match=r"data\.group"):
        BoxFolder(root=str(tmp_path), group="^(x)").class_counts  # noqa: B018


def test_groups_are_not_split(tiny, tmp_path):
    some = [tiny.Picture(f"patient{n // 4}_{n}.jpg") for n in range(20)]
    tiny.save(tmp_path, some)
    tiny.coco(tmp_path / "all.json", some)
    data = ready(BoxFolder(root=str(tmp_path), group=r"^(patient\d+)_"))
    train, val = ({path.name.split("_")[0] for path in data.samples[part].paths} for part in ("train", "val"))
    assert val and not train & val


def test_digit_scenes_do_not_change():
    one, other = ready(DigitScenes(scenes=40, seed=0)), ready(DigitScenes(scenes=40, seed=1))
    assert torch.equal(one.samples["test"].images, other.samples["test"].images)
    assert not torch.equal(one.samples["val"].images, other.samples["val"].images)
    assert {split: len(samples) for split, samples in one.samples.items()} == {"train": 40, "val": 4, "test": 8}
    assert (one.num_classes, one.in_channels, sum(one.class_counts)) == (10, 3, sum(one.class_counts))
    for found in one.samples["train"].targets:
        boxes = found["boxes"]
        assert 1 <= len(boxes) == len(found["labels"]) <= 6
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 3
        assert (boxes >= 0).all() and (boxes <= torch.tensor([96, 64] * 2)).all()
    labels = torch.cat([found["labels"] for found in one.samples["train"].targets])
    assert labels.min() == 1 and labels.max() == 10


def test_box_of_a_digit_encloses_its_ink():
    """The ground is darker than 161, and ink is brighter: within a box as without."""
    data = DigitScenes(scenes=30)
    samples = data.load_split("train")
    for image, found in zip(samples.images, samples.targets, strict=True):
        bright = (image.amax(0) > 165).float()
        inside = torch.zeros_like(bright)
        for x1, y1, x2, y2 in found["boxes"].int().tolist():
            assert bright[y1:y2, x1:x2].any()
            inside[y1:y2, x1:x2] = 1
        assert (bright * (1 - inside)).sum() == 0


def break_an_image(root):
    (root / "JPEGImages" / "train_1.jpg").write_bytes(b"")


def break_xml(root):
    (root / "Annotations" / "train_1.xml").write_text("<annotation>")


def add_a_class_to_val(root):
    file = root / "Annotations" / "val_0.xml"
    file.write_text(file.read_text().replace("<name>cat", "<name>yak"))


@pytest.mark.parametrize(
    ("change", "kind", "file"),
    [
        (break_an_image, "empty", "train_1.jpg"),
        (break_xml, "annotation-unreadable", "train_1.xml"),
        (add_a_class_to_val, "class-unknown", "val_0.xml"),
    ],
)
def test_broken_file_hides_no_other_fault(tiny, tmp_path, change, kind, file):
    """A leak and a constant image are found as they are without it."""
    tiny.voc_parts(tmp_path, {"train": 5, "val": 2})
    shutil.copy(tmp_path / "JPEGImages" / "train_0.jpg", tmp_path / "JPEGImages" / "val_1.jpg")
    Image.new("RGB", (30, 24), "grey").save(tmp_path / "JPEGImages" / "train_2.jpg")
    change(tmp_path)
    survey = full_survey(BoxFolder(root=str(tmp_path)))
    assert survey.counts == {"train": 5, "val": 2}
    assert {"leak", "constant", kind} <= {fault.kind for fault in survey.faults}
    assert not {"unusable", "image-missing"} & {fault.kind for fault in survey.faults}
    assert any(fault.kind == kind and fault.file.endswith(file) for fault in survey.faults)
    if change is break_an_image:
        assert list(ready(BoxFolder(root=str(tmp_path))).left_out["train"]) == [str(tmp_path / "JPEGImages" / file)]
    else:
        with pytest.raises(UserError, match=file):
            ready(BoxFolder(root=str(tmp_path)))


def test_annotation_without_bbox_hides_no_other_fault(tiny, tmp_path):
    tiny.coco_parts(tmp_path, {"train": 4, "val": 2})
    file = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]["bbox"]
    file.write_text(json.dumps(content))
    survey = full_survey(BoxFolder(root=str(tmp_path)))
    assert survey.counts == {"train": 4, "val": 2}
    assert {"leak", "annotation-unreadable"} <= {fault.kind for fault in survey.faults}
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    survey = full_survey(BoxFolder(root=str(tmp_path)))
    assert survey.counts == {"train": 4}
    assert {fault.line for fault in survey.faults if fault.kind == "annotation-unreadable"} == {None, 1}


def test_training_images_are_not_read_for_a_test(tiny, tmp_path):
    tiny.voc_parts(tmp_path, {"train": 4, "val": 2, "test": 2})
    learned = ready(BoxFolder(root=str(tmp_path))).state_dict()
    break_an_image(tmp_path)
    data = BoxFolder(root=str(tmp_path))
    data.load_state_dict(learned)
    data.setup("test")
    assert len(data.test_dataloader().dataset) == 2
    assert "train" not in data.left_out
    data = ready(BoxFolder(root=str(tmp_path)))
    assert len(data.samples["train"]) == 3 and len(data.left_out["train"]) == 1


def test_data_without_train_are_refused(tiny, tmp_path):
    tiny.save(tmp_path / "images" / "val", tiny.pictures(3))
    tiny.yolo(tmp_path / "labels" / "val", tiny.pictures(3))
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    (fault,) = (fault for fault in full_survey(BoxFolder(root=str(tmp_path))).faults if fault.severity == "error")
    assert fault.kind == "unusable" and "there are no train images, only val images" in fault.message
    assert BoxFolder(root=str(tmp_path)).in_channels == 3
    with pytest.raises(UserError, match="there are no train images, only val images"):
        BoxFolder(root=str(tmp_path)).class_counts  # noqa: B018


def test_similar_class_names_are_reported(tiny, tmp_path):
    for names, faults in (("cat\ndog\nDog_\n", 1), ("a\nA\nb\n", 0)):
        tiny.save(tmp_path / "images", tiny.pictures(3))
        tiny.yolo(tmp_path / "labels", tiny.pictures(3))
        (tmp_path / "classes.txt").write_text(names)
        survey = full_survey(BoxFolder(root=str(tmp_path)))
        assert [fault.kind for fault in survey.faults].count("class-spelled-twice") == faults


def test_copies_with_different_boxes_are_a_conflict(tiny, tmp_path):
    copies = [tiny.Picture("1.jpg"), tiny.Picture("2.jpg"), tiny.Picture("3.jpg"), tiny.Picture("4.jpg")]
    same, moved, renamed = copies[1:]
    same.boxes, same.names = same.boxes[::-1], same.names[::-1]  # the order says nothing
    moved.boxes = [moved.boxes[0], (1, 1, 9, 9)]
    renamed.names = ["cat", "cat"]
    tiny.save(tmp_path / "images", copies)
    tiny.coco(tmp_path / "mine.json", copies)
    faults = [fault for fault in quick_survey(BoxFolder(root=str(tmp_path))).faults if fault.other]
    assert {(fault.kind, fault.file[-5:]) for fault in faults} == {
        ("duplicate", "2.jpg"),
        ("label-conflict", "3.jpg"),
        ("label-conflict", "4.jpg"),
    }


def test_root_may_be_a_file_for_yolo_only(tiny, tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text("names: [cat, dog, owl]\ntrain: images\n")
    for kind in ("coco", "voc"):
        with pytest.raises(UserError, match=r"data\.yaml is a file; give the data's folder"):
            BoxFolder(root=str(file), format=kind)
    tiny.save(tmp_path / "images", tiny.pictures(1))
    assert BoxFolder(root=str(file)).class_names == tiny.CLASSES
    with pytest.raises(UserError, match="no data folder at"):
        BoxFolder(root=str(tmp_path / "nowhere.yaml"), format="yolo")


def test_size_is_chosen_from_images_and_boxes(tiny, tmp_path):
    """Boxes of 240x240 in images of 400x800 have about 120x120 pixels in 192x384."""
    some = [tiny.Picture(f"{n}.png", (400, 800), [(0, 0, 240, 240)], ["cat"]) for n in range(10)]
    tiny.save(tmp_path, some)
    tiny.coco(tmp_path / "all.json", some)
    data = BoxFolder(root=str(tmp_path))
    assert data.input_size == (192, 384) and data.load_split("train").shape == (3, 192, 384)
    assert BoxFolder(root=str(tmp_path), image_size=(9, 7)).input_size == (9, 7)
    ready(data)
    other = BoxFolder(root=str(tmp_path))
    _ = other.class_counts  # loads samples in the other size
    other.use_size([64, 96])
    assert ready(other).samples["train"].shape == (3, 64, 96) and other.state_dict()["size"] == (64, 96)
