"""Images and their masks or XML files are found from the root in every layout; ambiguous layouts are refused."""

from pathlib import Path

import pytest
from PIL import Image

from kit.formats.pairs import MASKS, XML_FILES, find_pairs
from kit.ground.errors import UserError


def write(*names: str) -> Path:
    for name in names:
        path = Path("root") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("a\nb\n" if "train" in name else "c\n")
        else:
            Image.new("L", (2, 1)).save(path)
    return Path("root")


def relative_pairs(root: Path, *folders: str | None) -> dict[str, list[tuple[str, str]]]:
    return {
        split: [(str(i.relative_to(root)), str(m.relative_to(root))) for i, m in zip(p.images, p.files, strict=True)]
        for split, p in find_pairs(root, MASKS, *folders).items()
    }


LAYOUTS = {
    "segnet": (["train/a.jpg", "trainannot/a.png", "val/b.jpg", "valannot/b.png", "train.txt"], ["train", "val"]),
    "camvid": (["train/a.png", "train_labels/a_L.png", "val/b.png", "val_labels/b_L.png"], ["train", "val"]),
    "capitals": (["Train/a.jpg", "TrainAnnot/a.PNG", "Test/b.JPG", "TestAnnot/b.png"], ["train", "test"]),
    "parallel": (["images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg", "masks/val/b.png"], ["train", "val"]),
    "ade": (
        [
            "images/training/a.jpg",
            "annotations/training/a.png",
            "images/validation/b.jpg",
            "annotations/validation/b.png",
        ],
        ["train", "val"],
    ),
    "years": (
        [f"{kind}/{split}2017/{split}.png" for kind in ("images", "masks") for split in ("train", "val")],
        ["train", "val"],
    ),
    "masks undivided": (["images/train/a.jpg", "images/val/b.jpg", "masks/a.png", "masks/b.png"], ["train", "val"]),
    "labels": (["Images/Train/a.jpg", "Labels/Train/a_mask.png", "Images/Test/b.jpg"], ["train", "test"]),
    "inside": (
        ["train/images/a.jpg", "train/masks/a.png", "valid/images/b.jpg", "valid/masks/b.png"],
        ["train", "val"],
    ),
    "undivided": (["images/a.jpg", "masks/a_mask.gif", "README/x.png"], ["train"]),
    "one folder": (["a.jpg", "a_mask.png", "b.jpg", "b_mask.png"], ["train"]),
    "roboflow": (["train/a.jpg", "train/a_mask.png", "test/b.jpg", "test/b_mask.png"], ["train", "test"]),
    "cityscapes": (
        [
            "leftImg8bit/train/x/a_leftImg8bit.png",
            "gtFine/train/x/a_gtFine_labelIds.png",
            "gtFine/train/x/a_gtFine_color.png",
            "gtFine/train/x/a_gtFine_instanceIds.png",
        ],
        ["train"],
    ),
    "in an archive's folder": (["set/images/a.jpg", "set/masks/a.jpg.png"], ["train"]),
    "beside a Mac's own": (["set/images/a.jpg", "set/masks/a.png", "__MACOSX/set/images/._a.jpg"], ["train"]),
    "fastai's camvid": (["images/a.png", "labels/a_P.png", "valid.txt", "codes.txt"], ["train"]),
    "camvid as published": (
        ["701_StillsRaw_full/a.png", "LabeledApproved_full/a_L.png", "label_colors.txt"],
        ["train"],
    ),
    "names of both": (
        ["train_images/a.png", "train_masks/a.png", "val_images/b.png", "val_masks/b.png", "test_images/c.png"],
        ["train", "val", "test"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_found_in_each_layout(name):
    files, splits = LAYOUTS[name]
    root = write(*files)
    pairs = relative_pairs(root)
    assert list(pairs) == splits
    for image, mask in (pair for split in pairs.values() for pair in split):
        assert image in files and mask in files and image != mask
        assert Path(mask).name.lower().startswith(Path(image).name.lower()[0])
        assert "_color" not in mask
    assert not any(p.lone_files for p in find_pairs(root, MASKS).values())


VOC = ["JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/c.jpg", "JPEGImages/d.jpg", "SegmentationObject/a.png"]
VOC += ["SegmentationClass/a.png", "SegmentationClass/c.png"]


@pytest.mark.parametrize("folder", ["ImageSets/Segmentation", "imagesets/segmentation"])
def test_voc_lists_divide_the_images(folder):
    lists = [f"{folder}/{split}.txt" for split in ("train", "val", "trainval")]
    root = write(*VOC, *lists)
    pairs = find_pairs(root, MASKS)
    assert relative_pairs(root) == {
        "train": [("JPEGImages/a.jpg", "SegmentationClass/a.png")],
        "val": [("JPEGImages/c.jpg", "SegmentationClass/c.png")],
    }
    assert [path.name for path in pairs["train"].lone_images] == ["b.jpg"]  # listed, but d is not


def test_voc_without_lists():
    assert list(relative_pairs(write(*VOC))) == ["train"]


def test_images_and_masks_without_a_partner():
    pairs = find_pairs(write("images/a.jpg", "images/b.jpg", "masks/b.png", "masks/c.png"), MASKS)["train"]
    assert [path.name for path in (*pairs.lone_images, *pairs.lone_files)] == ["a.jpg", "c.png"]


UNPAIRED = {
    "other names": ["images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg", "masks/val/x.png"],
    "no folder": ["images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg"],
    "no folder inside": ["train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg"],
    "no folder beside": ["train/a.jpg", "trainannot/a.png", "val/b.jpg"],
    "in one folder": ["train/a.jpg", "train/a_mask.png", "val/b.jpg"],
    "one mask folder": ["images/train/a.jpg", "masks/a.png", "images/val/b.jpg"],
    "lists": ["JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.png"],
}
UNPAIRED["lists"] += [f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val")]


@pytest.mark.parametrize("name", UNPAIRED)
def test_split_without_masks_is_kept(name):
    pairs = find_pairs(write(*UNPAIRED[name]), MASKS)
    assert list(pairs) == ["train", "val"]
    assert [path.name for path in pairs["train"].images] == ["a.jpg"] and not pairs["val"].images
    assert [path.stem for path in pairs["val"].lone_images] == ["c" if name == "lists" else "b"]
    assert [path.name for path in pairs["val"].lone_files] == (["x.png"] if name == "other names" else [])


def test_split_without_the_given_folder():
    root = write("train/p/a.jpg", "train/q/a.png", "val/p/b.jpg")
    assert [path.name for path in find_pairs(root, MASKS, "p", "q")["val"].lone_images] == ["b.jpg"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["images/a.png", "masks/a_Q.png"], r"1 images and 1 masks.*a\.png.*a_Q\.png"),
        (["images/train/a.png", "images/val/b.png", "masks/x.png"], "2 images and 0 masks"),
        (["train/a.png", "trainannot/x.png"], r"1 images and 1 masks.*a\.png.*x\.png"),
    ],
)
def test_error_if_no_mask_matches(files, message):
    with pytest.raises(UserError, match=message) as raised:
        find_pairs(write(*files), MASKS)
    assert "\n" not in str(raised.value)


def test_two_mask_folders_are_refused():
    root = write("images/a.jpg", "masks/a.png", "labels/a.png")
    with pytest.raises(UserError, match=r"labels/ and masks/ both.*--data.masks NAME"):
        find_pairs(root, MASKS)
    assert relative_pairs(root, None, "labels") == {"train": [("images/a.jpg", "labels/a.png")]}


def test_folder_names_can_be_given():
    root = write("photos/train/a.jpg", "drawn/train/a.png", "photos/val/b.jpg", "drawn/val/b.png")
    with pytest.raises(UserError, match=r"holds drawn/ \(2 images\), photos/ \(2 images\)"):
        find_pairs(root, MASKS)
    assert list(relative_pairs(root, "photos", "drawn")) == ["train", "val"]
    assert list(relative_pairs(write("train/p/c.jpg", "train/q/c.png"), "p", "q")) == ["train"]


def test_two_image_folders_of_one_split_are_refused():
    files = ["images/val/a.jpg", "masks/val/a.png", "val/images/b.jpg", "val/masks/b.png"]
    with pytest.raises(UserError, match="images/val/ and val/images/ both have images"):
        find_pairs(write(*files), MASKS)


def test_undivided_pairs_beside_a_test_folder_are_for_training():
    root = write("a.jpg", "a_mask.png", "test/b.jpg")
    assert relative_pairs(root) == {"train": [("a.jpg", "a_mask.png")], "test": []}


def test_xml_files():
    root = write("images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg", "SegmentationClass/a.png")
    for name in ("train/a", "train/lone", "val/c"):
        Path("root/Annotations", name).parent.mkdir(parents=True, exist_ok=True)
        Path("root/Annotations", f"{name}.xml").touch()
    pairs = find_pairs(root, XML_FILES)
    assert [path.name for path in (*pairs["train"].images, *pairs["train"].files)] == ["a.jpg", "a.xml"]
    assert [path.name for path in (*pairs["train"].lone_images, *pairs["train"].lone_files)] == ["b.jpg", "lone.xml"]
    assert [path.name for path in (*pairs["val"].images, *pairs["val"].files)] == ["c.jpg", "c.xml"]


def test_listed_image_that_does_not_exist_is_kept():
    root = write("JPEGImages/a.jpg", "ImageSets/Main/train.txt")
    Path("root/Annotations").mkdir()
    Path("root/Annotations/a.xml").touch()
    pairs = find_pairs(root, XML_FILES)["train"]
    assert [path.name for path in pairs.images] == ["a.jpg"] and [path.name for path in pairs.lone_images] == ["b"]


@pytest.mark.parametrize("second", ["a.bmp", "A.png"])
def test_two_masks_of_one_image_are_refused(second):
    root = write("images/a.jpg", "masks/a.png", f"masks/{second}")
    with pytest.raises(UserError, match="belong to the same image"):
        find_pairs(root, MASKS)


def test_two_masks_beside_their_image_are_refused():
    root = write("a.jpg", "a_mask.png", "a_mask.tif")
    with pytest.raises(UserError, match=r"a_mask\.png and a_mask\.tif belong to the same image"):
        find_pairs(root, MASKS)


def test_images_whose_names_end_like_masks_are_no_masks_of_one_image():
    root = write("a.jpg", "a_mask.png", "test/b_l.jpg", "test/b_l.png")
    assert relative_pairs(root)["train"] == [("a.jpg", "a_mask.png")]


def test_labelme_in_place_of_masks_is_named():
    (write("a.png", "b.png") / "a.json").write_text('{"shapes": []}')
    with pytest.raises(UserError, match=r"no images with masks.*LabelMe's files.*labelme2coco"):
        find_pairs(Path("root"), MASKS)


def test_list_without_any_image_or_partner():
    write("ImageSets/Main/train.txt", "JPEGImages/notes.txt")
    with pytest.raises(UserError, match=r"no images with XML files in root, which holds"):
        find_pairs(Path("root"), XML_FILES)
