"""What pixel values mean is decided once for a whole data set, and all that read its masks go by that."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.checks.survey import full_survey
from kit.ground.errors import BrokenFiles, UserError
from project.segmentation import MaskFolder


def palette(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids, mode="P")
    image.putpalette([value for grey in range(256) for value in (grey,) * 3])
    return image


MODES = {
    "L": Image.fromarray,
    "P": palette,
    "LA": lambda ids: Image.fromarray(ids).convert("LA"),
    "RGB": lambda ids: Image.fromarray(ids).convert("RGB"),
    "1": lambda ids: Image.fromarray(ids > 0),
    "16": lambda ids: Image.fromarray(ids.astype(np.uint16) * 257),
}


def folder(masks: list[tuple[str, list[int]]], split: str = "train", root: str = "data") -> str:
    """Noise of 3 by N pixels in `root/split`, with masks whose rows are the values, each in its mode."""
    for number, (mode, values) in enumerate(masks):
        for inside in (split, f"{split}annot"):
            (Path(root) / inside).mkdir(parents=True, exist_ok=True)
        plane = np.array([values] * 3, np.uint8)
        noise = np.random.default_rng(number).integers(0, 255, (*plane.shape, 3)).astype(np.uint8)
        Image.fromarray(noise).save(f"{root}/{split}/{number}.png")
        MODES[mode](plane).save(f"{root}/{split}annot/{number}.png")
    return root


def read(root: str, split: str = "train", **options) -> tuple[list[str], list[list[int]]]:
    """The class names, and the class numbers of each mask's first row, as training gets them."""
    data = MaskFolder(root=root, image_size="native", mean=[0.5] * 3, std=[1.0] * 3, **options)
    samples = data.load_splits()[split]
    return data.class_names, [samples.read(index)[-1, 0].tolist() for index in range(len(samples))]


BLACK_AND_WHITE = ["background", "foreground"]


@pytest.mark.parametrize("mode", sorted(MODES.keys() - {"16"}))
def test_black_and_white_are_two_classes_in_every_mode(mode):
    names, masks = read(folder([(mode, [0, 255, 0]), (mode, [0, 0, 0]), (mode, [255, 255, 255])]))
    assert masks == [[0, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert names == (["0", "1"] if mode == "1" else BLACK_AND_WHITE)


MEANINGS = [
    # files of several modes, and masks of 8 and of 1 bit
    ({}, [("L", [0, 255]), ("P", [255, 0])], BLACK_AND_WHITE, [[0, 1], [1, 0]]),
    ({}, [("L", [0, 1]), ("1", [0, 1])], ["0", "1"], [[0, 1], [0, 1]]),
    ({"class_names": ["sky", "car"]}, [("P", [0, 255]), ("L", [255, 0])], ["sky", "car"], [[0, 1], [1, 0]]),
    # 255 among smaller ids is ignored
    ({}, [("P", [0, 1, 2]), ("P", [2, 255, 0])], ["0", "1", "2"], [[0, 1, 2], [2, 255, 0]]),
    ({}, [("L", [0, 1, 255]), ("L", [0, 255, 0])], ["0", "1"], [[0, 1, 255], [0, 255, 0]]),
    ({"class_names": ["sky", "car"]}, [("L", [0, 1]), ("L", [1, 255])], ["sky", "car"], [[0, 1], [1, 255]]),
    # the user says what they mean
    ({"ids": [0, 128, 255]}, [("L", [0, 128]), ("P", [255, 7])], ["0", "128", "255"], None),
    ({"ids": [0, 128, 255]}, [("L", [0, 128]), ("P", [255, 0])], ["0", "128", "255"], [[0, 1], [2, 0]]),
    ({"ids": [255, 0]}, [("L", [0, 255])], ["255", "0"], [[1, 0]]),
    ({"ids": [0, 128]}, [("L", [0, 128, 255])], ["0", "128"], [[0, 1, 255]]),
    ({"ids": [0, 1]}, [("L", [0, 1, 0]), ("L", [0, 255, 0])], ["0", "1"], [[0, 1, 0], [0, 255, 0]]),
    (
        {"ids": [0, 1, 255], "class_names": ["sky", "car", "car"]},
        [("L", [0, 1]), ("L", [0, 255])],
        ["sky", "car"],
        [[0, 1], [0, 1]],
    ),
    ({"ids": [0, 65535], "class_names": ["a", "b"]}, [("16", [0, 255])], ["a", "b"], [[0, 1]]),
    ({"ignore": [255], "ids": [0, 5]}, [("L", [0, 5, 255])], ["0", "5"], [[0, 1, 255]]),
]


@pytest.mark.parametrize(("options", "masks", "names", "numbers"), MEANINGS)
def test_all_files_have_the_same_meaning(options, masks, names, numbers):
    root = folder(masks)
    if numbers is None:
        with pytest.raises(UserError, match=r"1\.png: id 7 of no class"):
            read(root, **options)
    else:
        assert read(root, **options) == (names, numbers)


UNCLEAR = [
    ({}, [("16", [0, 255])], r"ids 0, 65535 .*--data\.ids '\[0, 65535\]'"),
    ({}, [("L", [0, 128, 255])], r"ids 0, 128 \(128 in .*0\.png\).*--data\.ids '\[0, 128\]'; 255 is ignored unless"),
    ({}, [("P", [0, 255, 0]), ("P", [0, 254, 255])], r"254 in .*1\.png.*--data\.ids"),
    (
        {},
        [("L", [0, 1, 0]), ("L", [0, 255, 0])],
        r"1\.png has only 0 and 255.*0\.png has other ids.*--data\.ids",
    ),
    ({}, [("L", [0, 255]), ("1", [0, 1])], r"0\.png has only 0 and 255.*1\.png has other ids"),
    ({"class_names": ["a", "b"]}, [("L", [0, 1]), ("P", [0, 255])], r"1\.png has only 0 and 255.*0\.png"),
    ({}, [("L", [255, 255])], r"are 255, which is ignored.*--data\.ids"),
    ({"class_names": ["a", "b"]}, [("L", [255, 255])], "pixels of the masks are 255"),
]


@pytest.mark.parametrize(("options", "masks", "message"), UNCLEAR)
def test_ambiguous_values_stop_fit_and_check(options, masks, message):
    root = folder(masks)
    with pytest.raises(UserError, match=message) as raised:
        read(root, **options)
    assert "\n" not in str(raised.value)
    (fault,) = [one for one in full_survey(MaskFolder(root=root, **options)).faults if one.kind == "unusable"]
    assert str(raised.value) in fault.message


def test_every_file_is_read():
    """Not some, evenly spaced."""
    masks = [("L", [0, 1])] * 40
    masks[27] = ("L", [0, 255])
    with pytest.raises(UserError, match=r"27\.png has only 0 and 255"):
        read(folder(masks))


def test_floating_point_masks_are_refused():
    root = folder([("L", [0, 1])])
    Path(f"{root}/trainannot/0.png").unlink()
    Image.fromarray(np.full((3, 2), 0.5, np.float32)).save(f"{root}/trainannot/0.tif")
    with pytest.raises(BrokenFiles, match=r"0\.tif: .*floating"):
        read(root)


def test_table_of_greys_in_every_mode():
    table = "ground 0 0 0\nsea 100 100 100\nland 255 255 255\n"
    Path(f"{folder([('RGB', [0, 100, 255])], root='greys')}/classes.txt").write_text(table)
    assert read("greys") == (["ground", "sea", "land"], [[0, 1, 2]])
    Path(f"{folder([('P', [0, 1, 2, 255])], root='ids')}/classes.txt").write_text(table)
    assert read("ids") == (["ground", "sea", "land"], [[0, 1, 2, 255]])


@pytest.mark.parametrize(
    ("table", "message"),
    [("0, sky\n70000, car\n", r"classes\.txt:2: .*70000"), ("0, sky\n3, car\n3, road\n", r":3: id 3 .*'car'")],
)
def test_indistinguishable_ids_of_a_table_are_reported(table, message):
    root = folder([("L", [0, 3])])
    Path(f"{root}/classes.txt").write_text(table)
    with pytest.raises(UserError, match=message):
        read(root)


def test_checkpoint_keeps_the_meaning_of_values():
    """Trained on black and white, tested on masks that are white alone, or that hold other ids."""
    options = {"image_size": "native", "mean": [0.5] * 3, "std": [1.0] * 3}
    trained = MaskFolder(root=folder([("P", [0, 255]), ("P", [255, 0])]), **options)
    trained.setup("fit")
    tests = {}
    for name, values in (("white", [255, 255]), ("ids", [0, 1])):
        tests[name] = MaskFolder(root=folder([("L", values)], "test", name), **options)
        tests[name].load_state_dict(trained.state_dict())
    tests["white"].setup("test")
    assert torch.equal(tests["white"].samples["test"].read(0)[-1], torch.ones(3, 2, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"0\.png: id 1 of no class"):
        tests["ids"].setup("test")


@pytest.mark.slow
def test_run_with_ids(fit, tiny):
    """Greys of 0, 128 and 255 are refused, and with `--data.ids` three classes are measured."""
    root = tiny.folders(Path("scenes"), {"train": 4, "val": 2}, size=(16, 16))
    (root / "classes.txt").unlink()
    for path in root.glob("*annot/*.png"):
        Image.fromarray(np.array([0, 128, 255], np.uint8)[np.asarray(Image.open(path))]).save(path)
    given = ["--data", "project.segmentation.MaskFolder", "--data.root", str(root), "--data.image_size", "[16, 16]"]
    given += ["--data.augment", "[]", "--trainer.max_epochs", "1", "--data.batch_size", "4"]
    with pytest.raises(UserError, match=r"--data\.ids '\[0, 128\]'; 255 is ignored unless"):
        fit(*given)
    run = fit(*given, "--data.ids", "[0, 128, 255]", "--data.class_names", "[sky, road, car]")
    results = json.loads((run / "results.json").read_text())
    assert {key for key in results if key.startswith("val/iou/")} == {"val/iou/sky", "val/iou/road", "val/iou/car"}
