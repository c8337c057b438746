"""Where images with masks come from, and what is said when they are not as they should be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from kit.data import reading
from kit.formats.masks.classes import Entry, read_table
from kit.formats.masks.masks import collate_masks
from kit.ground.errors import UserError
from kit.masks import RandomScaleCrop
from project.segmentation import DigitMasks, MaskFolder

COLOURS = {0: (128, 128, 128), 1: (0, 0, 192), 2: (128, 64, 128)}
STATISTICS = {"mean": [0.5] * 3, "std": [1.0] * 3}


def ready(data):
    data.setup("fit")
    return data


def samples(data, split: str = "train") -> list[tuple[torch.Tensor, torch.Tensor]]:
    chosen = data.samples[split]
    return [data.sample(pixels, None) for pixels in chosen.fetch(range(len(chosen)))]


def coloured(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.array([COLOURS[i] for i in range(3)], np.uint8)[mask])


def palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask, mode="P")
    image.putpalette([value + 1 for i in range(3) for value in COLOURS[2 - i]])  # the colours mean nothing
    return image


KINDS = {
    "index": Image.fromarray,
    "palette": palette,
    "colours": coloured,
    "RGBA": lambda mask: coloured(mask).convert("RGBA"),
    "16 bits": lambda mask: Image.fromarray(mask.astype(np.uint16)),
}
TABLES = {
    "classes.txt": "a 128 128 128\nb 0 0 192\nc 128 64 128\n",
    "label_colors.txt": "128 128 128\ta\n0 0 192\t\tb\n128 64 128 c\n",
    "codes.txt": "a 128 128 128\nb 0 0 192\nc 128 64 128\n",
    "class_dict.csv": "name,r,g,b\na,128,128,128\nb,0,0,192\nc,128,64,128\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\na:128,128,128::\nb:0,0,192::\nc:128,64,128::\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_all_kinds_of_masks_give_the_same_samples(tiny, kind, table):
    root = tiny.folders(Path("scenes"), {"train": 3, "val": 1})
    (root / "classes.txt").unlink()
    (root / table).write_text(TABLES[table])
    wanted = [tiny.picture(18, 26, seed) for seed in range(3)]
    for number, (_, mask) in enumerate(wanted):
        KINDS[kind](mask).save(root / "trainannot" / f"{number}.png")
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS))
    assert data.class_names == ["a", "b", "c"] and data.in_channels == 3
    for (image, mask), (picture, ids) in zip(samples(data), wanted, strict=True):
        assert torch.equal(mask, torch.from_numpy(ids))
        assert torch.equal(image, torch.from_numpy(tiny.pixels(picture)).permute(2, 0, 1))


def test_palette_with_the_colours_of_other_classes_is_refused(tiny):
    root = tiny.folders(Path("scenes"), {"train": 2, "val": 1})
    (root / "classes.txt").write_text(TABLES["classes.txt"])
    for number, order in enumerate([(0, 1, 2), (2, 0, 1)]):
        mask = Image.fromarray(tiny.picture(18, 26, number)[1], mode="P")
        mask.putpalette([value for i in order for value in COLOURS[i]])
        mask.save(root / "trainannot" / f"{number}.png")
    with pytest.raises(UserError, match=r"1\.png: id 0 has the colour \[128, 64, 128\], which is another class's"):
        MaskFolder(root=str(root)).setup("fit")
    (fault,) = MaskFolder(root=str(root)).annotation_faults()
    assert fault.kind == "mask-palette"
    MaskFolder(root=str(root), class_names=["a", "b", "c"]).setup("fit")


def test_colour_of_two_classes_counts_neither_in_palettes_nor_in_colours(tiny):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    (root / "classes.txt").write_text("ground 0 0 0\nsky 9 9 9\nsign 0 0 255\nunlabelled 0 0 0\n")
    pixels = np.zeros((18, 26), np.uint8)
    pixels[:9] = 1
    mask = Image.fromarray(pixels, mode="P")
    mask.putpalette([0, 0, 0, 9, 9, 9])
    mask.save(root / "trainannot" / "0.png")
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS))
    ((_, read),) = samples(data)
    assert torch.equal(read, torch.from_numpy(pixels))
    mask.convert("RGB").save(root / "trainannot" / "0.png")
    with pytest.raises(UserError, match=r"colour \[0, 0, 0\] of no class or of several"):
        MaskFolder(root=str(root)).setup("fit")


def test_class_tables():
    def table(text: str, name: str = "classes.txt") -> list[Entry]:
        Path(name).write_text(text)
        return read_table(Path(name))

    assert table("sky\ntraffic light\n") == [Entry(0, "sky", None), Entry(1, "traffic light", None)]
    assert table("traffic light 1 2 3\n\n4 5 6 sky\n") == [
        Entry(0, "traffic light", (1, 2, 3)),
        Entry(1, "sky", (4, 5, 6)),
    ]
    assert table("Pixel Value, Class\n0, ground\n4, cell\n", "_classes.csv") == [
        Entry(0, "ground", None),
        Entry(4, "cell", None),
    ]
    assert table("id,name,r,g,b\n3,a cell,1,2,3\n") == [Entry(3, "a cell", (1, 2, 3))]
    assert table("ground:::\nx:1,2,3:part:act\n") == [Entry(0, "ground", None), Entry(1, "x", (1, 2, 3))]
    with pytest.raises(UserError, match=r"classes\.txt:2: a colour is three numbers from 0 to 255"):
        table("a 1 2 3\nb 1 2 300\n")
    with pytest.raises(UserError, match="txt: no classes"):
        table("\n")


@pytest.mark.parametrize(
    ("options", "names", "numbers"),
    [
        ({}, ["sky", "road", "car"], [0, 1, 2, 255, 255]),
        ({"ignore": [3, 0]}, ["road", "car"], [255, 0, 1, 255, 255]),
        ({"ignore": []}, ["sky", "road", "car", "Unlabelled"], [0, 1, 2, 3, 255]),
        ({"class_names": ["x", "y", "z"], "ignore": [3]}, ["x", "y", "z"], [0, 1, 2, 255, 255]),
        ({"class_names": ["x", "y", "x", "y"]}, ["x", "y"], [0, 1, 0, 1, 255]),
    ],
)
def test_ids_become_class_numbers(tiny, options, names, numbers):
    root = tiny.folders(Path("scenes"), {"train": 2, "val": 1}, size=(1, 5))
    for path in (root / "trainannot").iterdir():
        Image.fromarray(np.array([[0, 1, 2, 3, 255]], np.uint8)).save(path)
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS, **options))
    assert data.class_names == names
    assert samples(data)[0][1].tolist() == [numbers]
    assert data.class_counts == [2 * numbers.count(k) for k in range(len(names))]


def test_ids_in_three_equal_channels(tiny):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    mask = tiny.picture(18, 26)[1]
    Image.fromarray(np.stack([mask] * 3, -1)).save(root / "trainannot" / "0.png")
    assert torch.equal(samples(ready(MaskFolder(root=str(root), image_size="native")))[0][1], torch.from_numpy(mask))


def test_grey_masks_with_a_table(tiny):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    (root / "classes.txt").write_text("ground 0 0 0\nwater 100 100 100\nland 200 200 200\n")
    mask = tiny.picture(18, 26)[1]
    for split in ("train", "val"):
        Image.fromarray(mask * 100).save(root / f"{split}annot" / "0.png")
    with pytest.raises(UserError, match=r"ids 100, 200 of no class.*--data\.ids"):
        samples(ready(MaskFolder(root=str(root), image_size="native")))
    data = ready(MaskFolder(root=str(root), image_size="native", ids=[0, 100, 200]))
    assert torch.equal(samples(data)[0][1], torch.from_numpy(mask))


def test_ids_are_class_names_by_default(tiny):
    root = tiny.folders(Path("scenes"), {"train": 2, "val": 1})
    (root / "classes.txt").unlink()
    assert MaskFolder(root=str(root)).class_names == ["0", "1", "2"]
    for path in (*(root / "trainannot").iterdir(), *(root / "valannot").iterdir()):
        Image.fromarray(np.array([[0, 255, 0]], np.uint8)).resize((26, 18), 0).save(path)
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS))  # black and white
    assert data.class_names == ["background", "foreground"]
    assert set(samples(data)[0][1].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("ground\nwater\n", ["ground", "water"]),
        ("255, water\n0, ground\n", ["ground", "water"]),
        ("water 255 255 255\nground 0 0 0\n", ["ground", "water"]),
        ("lesion 255 0 0\nground 0 0 0\n", ["ground", "lesion"]),
        ("1, water, 9, 9, 9\n0, ground, 8, 8, 8\n", ["ground", "water"]),
    ],
)
def test_classes_of_black_and_white_masks(tiny, table, names):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    (root / "classes.txt").write_text(table)
    mask = np.array([[0, 255], [0, 0]], np.uint8)
    for split in ("train", "val"):
        Image.fromarray(mask).resize((26, 18), 0).save(root / f"{split}annot" / "0.png")
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS))
    numbers = samples(data)[0][1]
    assert [data.class_names[number] for number in numbers[[0, 0], [0, -1]].tolist()] == names


MISTAKES = [
    ({"class_names": ["a", "b"]}, r"trainannot/\d\.png: id 2 of no class; give --data\.class_names"),
    ({"colors": {"a": [1, 2]}}, "data.colors: 'a' is"),
    ({"ignore": [1, 2, 3]}, "fewer than two classes"),
    ({"ignore": [-1]}, "data.ignore is .*an id is from 0"),
    ({"ids": [0, 1, 2]}, "data.ids has 3 ids, but there are 4 class names"),
    ({"ids": [0, 1, 1]}, "data.ids is .*once"),
    ({"image_size": (0, 0)}, r"data.image_size is \[0, 0\], but must be a height and a width above 0"),
    (
        {"cache": "ram", "image_size": "native"},
        "a cache needs images of one size; give --data.image_size",
    ),
    ({"masks": "nowhere"}, r"no images with masks in scenes, which holds train/ \(3 images\)"),
]


@pytest.mark.parametrize(("options", "said"), MISTAKES)
def test_mistakes_are_one_line(tiny, options, said):
    root = tiny.folders(Path("scenes"), {"train": 3, "val": 1})
    image, mask = tiny.picture(20, 30)
    image.save(root / "train" / "2.png")
    Image.fromarray(mask).save(root / "trainannot" / "2.png")
    with pytest.raises(UserError, match=said) as raised:
        data = ready(MaskFolder(root=str(root), **{"image_size": (18, 26), **STATISTICS, **options}))
        samples(data)
    assert "\n" not in str(raised.value)


def test_coloured_masks_without_colours_are_refused(tiny):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    (root / "classes.txt").unlink()
    for split in ("train", "val"):
        coloured(tiny.picture(18, 26)[1]).save(root / f"{split}annot" / "0.png")
    with pytest.raises(UserError, match=r"masks are coloured.*--data\.colors"):
        _ = MaskFolder(root=str(root)).class_names
    data = MaskFolder(
        root=str(root), image_size="native", colors={"a": [128, 128, 128], "b": [0, 0, 192]}, **STATISTICS
    )
    with pytest.raises(UserError, match=r"0\.png: colour \[128, 64, 128\] of no class.*give each class's colour with"):
        samples(ready(data))


def test_images_with_broken_masks_are_left_out(tiny):
    root = tiny.folders(Path("scenes"), {"train": 3, "val": 1})
    (root / "trainannot" / "1.png").write_bytes((root / "trainannot" / "1.png").read_bytes()[:60])
    data = ready(MaskFolder(root=str(root), cache="ram", image_size=(18, 26)))
    assert data.files(torch.arange(2), "train") == [str(root / "train" / "0.png"), str(root / "train" / "2.png")]
    ((file, why),) = data.left_out["train"].items()
    assert file == str(root / "train" / "1.png") and "trainannot/1.png" in why


WRONG_MASKS = [
    (np.zeros((18, 30), np.uint8), "scenes/test/1.png: its mask is 18 high and 30 wide, the image 18 high and 26 wide"),
    (np.full((18, 26), 9, np.uint8), "scenes/testannot/1.png: id 9 of no class"),
]


@pytest.mark.parametrize(("mask", "problem"), WRONG_MASKS)
def test_wrong_test_mask_is_refused_before_training(tiny, mask, problem):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1, "test": 2})
    Image.fromarray(mask).save(root / "testannot" / "1.png")
    with pytest.raises(UserError, match=problem):
        MaskFolder(root=str(root), class_names=["a", "b", "c"]).setup("fit")


def test_stored_search_does_not_hide_ids_of_no_class(tiny, monkeypatch):
    monkeypatch.setattr(reading, "MIN_SECONDS", -1)
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    ready(MaskFolder(root=str(root), class_names=["a", "b", "c"]))
    with pytest.raises(UserError, match="id 2 of no class"):
        MaskFolder(root=str(root), class_names=["a", "b"]).setup("fit")


def test_mask_of_half_the_size_is_resized(tiny):
    root = tiny.folders(Path("scenes"), {"train": 1, "val": 1})
    mask = tiny.picture(18, 26)[1]
    Image.fromarray(mask).resize((13, 9), 0).save(root / "trainannot" / "0.png")
    half = samples(ready(MaskFolder(root=str(root), image_size="native", **STATISTICS)))[0][1]
    assert half.shape == (18, 26) and (half == torch.from_numpy(mask)).float().mean() > 0.9


# A mask of an image that was turned by 180 degrees could be either, by its size, and is taken for upright.
TURNS = [(orientation, "upright") for orientation in range(1, 9)]
TURNS += [(orientation, "stored") for orientation in (1, 5, 6, 7, 8)]


@pytest.mark.parametrize(("orientation", "drawn_on"), TURNS)
def test_masks_of_images_rotated_by_exif(tiny, orientation, drawn_on):
    """Red tells the class, so that the mask can be read off the image however it is turned."""
    mask = tiny.picture(18, 26)[1]
    image = Image.fromarray(np.stack([mask * 90, mask, mask], -1))
    image.getexif()[0x0112] = orientation
    for folder in ("images", "masks"):
        Path(folder).mkdir()
    for number in range(2):
        image.save(f"images/{number}.png", exif=image.getexif())
        upright = np.array(ImageOps.exif_transpose(Image.open(f"images/{number}.png")))[..., 1]
        Image.fromarray(upright if drawn_on == "upright" else mask).save(f"masks/{number}.png")
    data = ready(MaskFolder(root=".", image_size="native", class_names=["a", "b", "c"], **STATISTICS))
    seen, classes = samples(data)[0]
    assert classes.shape == ((26, 18) if orientation >= 5 else (18, 26))
    assert torch.equal(seen[0], classes * 90)


def test_masks_are_resized_by_nearest(tiny):
    root = tiny.folders(Path("scenes"), {"train": 2, "val": 1})
    data = ready(MaskFolder(root=str(root), image_size=(9, 39), **STATISTICS))
    image, mask = samples(data)[0]
    assert image.shape == (3, 9, 39) and mask.shape == (9, 39)
    assert set(mask.unique().tolist()) == {0, 1, 2}
    kept = ready(MaskFolder(root=str(root), image_size=(18, 40), keep_aspect=True, **STATISTICS))
    image, mask = samples(kept)[0]
    assert torch.equal(mask[:, :26], torch.from_numpy(tiny.picture(18, 26)[1]))
    assert (mask[:, 26:] == 255).all() and (image[:, :, 26:] == 114).all()


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_cache_does_not_change_samples(tiny, cache):
    root = str(tiny.folders(Path("scenes"), {"train": 12, "val": 3}))
    options = {"root": root, "image_size": (16, 24), "batch_size": 4, "num_workers": 0}
    options["augment"] = [RandomScaleCrop((12, 14))]
    plain, cached = ready(MaskFolder(**options)), ready(MaskFolder(cache=cache, **options))
    for one, other in zip(plain.train_dataloader(), cached.train_dataloader(), strict=True):
        assert one.images.shape == (4, 3, 12, 14) and one.targets.shape == (4, 12, 14)
        assert one.images.dtype == torch.uint8 and one.targets.dtype == torch.long
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (plain.mean, plain.std) == (cached.mean, cached.std)


def test_disk_cache_is_renewed_if_masks_change(tiny):
    root = tiny.folders(Path("scenes"), {"train": 3, "val": 1})
    options = {"root": str(root), "image_size": (18, 26), "cache": "disk"}
    before = samples(ready(MaskFolder(**options)))[0][1]
    ignoring = samples(ready(MaskFolder(**options, ignore=[1])))[0][1]
    assert torch.equal(ignoring == 255, before == 1)
    Image.fromarray(np.zeros((18, 26), np.uint8)).save(root / "trainannot" / "0.png")
    assert (samples(ready(MaskFolder(**options)))[0][1] == 0).all()


def test_images_of_different_sizes_are_evaluated_one_at_a_time(tiny):
    root = tiny.folders(Path("scenes"), {"train": 4, "val": 2})
    image, mask = tiny.picture(30, 22)
    image.save(root / "val" / "1.png")
    Image.fromarray(mask).save(root / "valannot" / "1.png")
    data = MaskFolder(
        root=str(root), image_size="native", batch_size=4, augment=[RandomScaleCrop((16, 16))], **STATISTICS
    )
    data.setup("fit")
    assert [batch.images.shape for batch in data.val_dataloader()] == [(1, 3, 18, 26), (1, 3, 30, 22)]
    assert next(iter(data.train_dataloader())).images.shape == (4, 3, 16, 16)


def test_batch_of_several_sizes_is_padded_with_ignored_pixels():
    images = [torch.ones(2, 3, 5, dtype=torch.uint8), torch.ones(2, 4, 2, dtype=torch.uint8)]
    masks = [torch.ones(3, 5, dtype=torch.uint8), torch.ones(4, 2, dtype=torch.uint8)]
    pixels, targets = collate_masks(images, masks)
    assert pixels.shape == (2, 2, 4, 5) and targets.shape == (2, 4, 5) and targets.dtype == torch.long
    assert (targets == 1).sum() == 15 + 8 and (targets == 255).sum() == 5 + 12
    assert (pixels == 1).sum() == 2 * (15 + 8) and (pixels == 114).sum() == 2 * (5 + 12)


def test_validation_split_has_rare_classes(tiny):
    root = tiny.folders(Path("scenes"), {"train": 20}, size=(4, 6))
    for number in range(20):
        ids = np.full((4, 6), int(number >= 18) * 2, np.uint8)
        ids[:, :2] = 1
        Image.fromarray(ids).save(root / "trainannot" / f"{number}.png")
    data = ready(MaskFolder(root=str(root), image_size="native", **STATISTICS))
    assert len(data.samples["val"]) == 3
    assert sum((mask == 2).any().item() for _, mask in samples(data, "val")) == 1


def test_groups_are_not_split(tiny):
    root = tiny.folders(Path("scenes"), {"train": 12})
    data = ready(MaskFolder(root=str(root), group=r"^(\d)", image_size="native", **STATISTICS))
    files = [{Path(data.samples[s].file(i)).name[0] for i in range(len(data.samples[s]))} for s in ("train", "val")]
    assert files[0] and files[1] and not files[0] & files[1]


def test_checkpoint_has_classes_without_a_table(tiny):
    root = tiny.folders(Path("scenes"), {"train": 4, "val": 1})
    (root / "classes.txt").write_text("void\nroad\ncar\n")
    state = ready(MaskFolder(root=str(root), image_size="native")).state_dict()
    (root / "classes.txt").unlink()
    other = MaskFolder(root=str(root), image_size="native")
    other.load_state_dict(state)
    assert other.class_names == ["road", "car"]
    assert set(samples(ready(other), "val")[0][1].unique().tolist()) == {255, 0, 1}


def test_digit_scenes_do_not_change_and_share_no_digits():
    one, other = (DigitMasks(train=60, val=10, test=20, seed=seed) for seed in (0, 1))
    assert (one.num_classes, one.in_channels) == (11, 1)
    for data in (one, other):
        ready(data)
    assert torch.equal(one.samples["test"].images, other.samples["test"].images)
    assert not torch.equal(one.samples["val"].images, other.samples["val"].images)
    again = ready(DigitMasks(train=60, val=10, test=20, seed=0))
    assert torch.equal(one.samples["train"].images, again.samples["train"].images)
    images = one.samples["train"].images
    assert images.shape == (60, 2, 64, 96) and images[:, 1].max() == 10
    assert sum(one.class_counts) == 60 * 64 * 96 and min(one.class_counts) > 0
    shares = one.charts()["labels"].values
    assert next(iter(shares)) == "background" and len(shares) == 11 and sum(shares.values()) == pytest.approx(1)
    ink, ground = images[:, 0][images[:, 1] > 0].float(), images[:, 0][images[:, 1] == 0].float()
    assert ink.mean() > ground.mean() + 40
