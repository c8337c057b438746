"""Plant each kind of fault among clean images, and test that it is reported for the right file, and no other."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import CLEAN, Photos, picture, write
from PIL import Image, ImageEnhance, ImageFilter
from tiny_task import Shades

from kit.checks import survey
from kit.checks.classes import class_faults
from kit.checks.survey import Survey, full_survey, quick_survey
from kit.ground.errors import UserError
from kit.ground.faults import KINDS

FAULTY = Path("photos/train/cat/5.jpg")  # the file that gets the fault, unless the kind needs another


@pytest.fixture(autouse=True)
def photos() -> None:
    write()


def edit(change: Callable[[Image.Image], Image.Image], path: Path = FAULTY, **saving) -> None:
    with Image.open(path) as image:
        image.load()
    change(image).save(path, **{"quality": 92, **saving})


def change_bytes(change: Callable[[bytes], bytes]) -> None:
    FAULTY.write_bytes(change(FAULTY.read_bytes()))


def copy(source: str, target: str) -> str:
    shutil.copy(f"photos/{source}", f"photos/{target}")
    return f"photos/{target}"


def save_as(name: str) -> None:
    stream = io.BytesIO()
    with Image.open(FAULTY) as image:
        image.save(stream, name)
    FAULTY.write_bytes(stream.getvalue())


def near_copy(source: str, target: str) -> str:
    """Copy an image smaller, lighter and with more compression."""
    with Image.open(f"photos/{source}") as image:
        ImageEnhance.Brightness(image.resize((70, 84))).enhance(1.05).save(f"photos/{target}", quality=60)
    return f"photos/{target}"


def pixel_copy(source: str, target: str) -> str:
    with Image.open(f"photos/{source}") as image:
        image.save(f"photos/{target}")
    return f"photos/{target}"


def sixteen_bit() -> str:
    Image.fromarray(np.random.default_rng(0).integers(0, 65536, (96, 80), dtype=np.uint16)).save("photos/val/dog/x.png")
    return "photos/val/dog/x.png"


def few_shades() -> None:
    pixels = np.full((96, 80), 120, dtype=np.uint8)
    pixels[40:50, 30:60] = 160
    Image.fromarray(pixels).convert("RGB").save(FAULTY, quality=95)


def rare_class() -> None:
    for number in range(2, 12):
        Path(f"photos/train/dog/{number}.jpg").unlink()


def other_spelling() -> None:
    for split in CLEAN:
        Path(f"photos/{split}/Cat_").mkdir()
        for number in range(10):
            picture(1000 + number + len(split) * 100).save(f"photos/{split}/Cat_/{number}.jpg")


def alpha() -> str:
    image = picture(77)
    image.putalpha(240)
    image.save("photos/val/cat/x.png")
    return "photos/val/cat/x.png"


def missing_class() -> str:
    shutil.rmtree("photos/val/dog")
    return ""


# For each kind, a function that plants it. It returns the file at which the fault is reported; None means FAULTY.
PLANTS: dict[str, Callable[[], str | None]] = {
    "empty": lambda: change_bytes(lambda content: b""),
    "not-an-image": lambda: change_bytes(lambda content: b"<html>404</html>"),
    "unreadable": lambda: change_bytes(lambda content: content[:-900]),
    "wrong-extension": lambda: save_as("PNG"),
    "sixteen-bit": sixteen_bit,
    "alpha": alpha,
    "cmyk": lambda: edit(lambda image: image.convert("CMYK")),
    "mixed-colour": lambda: edit(lambda image: image.convert("L")),
    "odd-size": lambda: edit(lambda image: image.resize((20, 24))),
    "odd-aspect": lambda: edit(lambda image: image.resize((240, 40))),
    "constant": lambda: edit(lambda image: Image.new("RGB", image.size, "teal")),
    "low-information": few_shades,
    "dark": lambda: edit(lambda image: ImageEnhance.Brightness(image).enhance(0.15)),
    "bright": lambda: edit(lambda image: image.point(lambda value: 246 + value // 30)),
    "blurred": lambda: edit(lambda image: image.filter(ImageFilter.GaussianBlur(4))),
    "duplicate": lambda: copy("train/cat/1.jpg", "train/cat/x.jpg"),
    "near-duplicate": lambda: near_copy("train/cat/1.jpg", "train/cat/x.jpg"),
    "leak": lambda: copy("train/cat/1.jpg", "val/cat/x.jpg"),
    "near-leak": lambda: near_copy("train/cat/1.jpg", "val/cat/x.jpg"),
    "label-conflict": lambda: copy("train/cat/1.jpg", "train/dog/x.jpg"),
    "class-missing": missing_class,
    "class-rare": lambda: rare_class() or "",
    "class-spelled-twice": lambda: other_spelling() or "",
}
HEADERS = {"empty", "not-an-image", "wrong-extension", "sixteen-bit", "alpha", "cmyk", "mixed-colour", "odd-size"}
QUICK = HEADERS | {
    "odd-aspect",
    "duplicate",
    "leak",
    "label-conflict",
    "class-missing",
    "class-rare",
    "class-spelled-twice",
}


def kinds_and_files(survey: Survey) -> set[tuple[str, str]]:
    return {(fault.kind, fault.file) for fault in survey.faults}


@pytest.mark.parametrize("kind", PLANTS)
def test_planted_fault_is_found_at_its_file_and_no_other(kind):
    planted = PLANTS[kind]()
    file = str(FAULTY) if planted is None else planted
    survey = full_survey(Photos())
    assert (kind, file) in kinds_and_files(survey)
    also_true = {"sixteen-bit": {("mixed-colour", file)}}
    assert kinds_and_files(survey) - {(kind, file)} <= also_true.get(kind, set())
    assert {fault.severity for fault in survey.faults if fault.kind == kind} == {KINDS[kind]}
    if kind in QUICK:
        assert (kind, file) in kinds_and_files(quick_survey(Photos()))


def test_clean_images_have_no_faults():
    assert full_survey(Photos()).faults == quick_survey(Photos(), all_files=True).faults == []


def test_quick_survey_of_many_files_checks_some_of_them(monkeypatch):
    monkeypatch.setattr(survey, "MAX_FILES", 10)
    for number, path in enumerate(Path("photos/train/dog").iterdir()):
        picture(number).save(path, "PNG")
    quick = quick_survey(Photos())
    assert 1 <= len(quick.faults) < 10 and "10 of 30 files" in quick.notes[0]
    assert [fault.kind for fault in quick_survey(Photos(), all_files=True).faults].count("wrong-extension") == 12


def test_same_pixels_in_another_format_are_a_leak():
    copied = pixel_copy("train/dog/2.jpg", "val/dog/x.png")
    faults = full_survey(Photos()).faults
    assert [(fault.kind, fault.file, fault.other) for fault in faults] == [("leak", copied, "photos/train/dog/2.jpg")]


def test_each_copy_is_reported_once_and_across_splits_if_possible():
    for target in ("train/cat/x.jpg", "train/dog/y.jpg", "val/cat/z.jpg"):
        copy("train/cat/0.jpg", target)
    assert kinds_and_files(full_survey(Photos())) == {
        ("duplicate", "photos/train/cat/x.jpg"),
        ("label-conflict", "photos/train/dog/y.jpg"),
        ("leak", "photos/val/cat/z.jpg"),
    }


def test_groups_in_two_splits_are_reported():
    for split, name in (("train", "cat"), ("val", "dog")):
        picture(len(split) + 500).save(f"photos/{split}/{name}/p7_1.jpg")
    faults = full_survey(Photos(group=r"^(p\d+_|\d+)")).faults
    straddling = [fault for fault in faults if fault.kind == "group-straddles"]
    assert ("photos/val/dog/p7_1.jpg", "photos/train/cat/p7_1.jpg") in [(f.file, f.other) for f in straddling]
    assert len({fault.message for fault in straddling}) == len(straddling)


def test_images_in_memory_are_checked():
    clean = Shades(train=33, val=5)
    assert full_survey(clean).faults == quick_survey(clean).faults == []

    class Twice(Shades):
        def load_split(self, split):
            samples = super().load_split(split)
            if split == "train":
                samples.images[4] = torch.tensor([200, 0, 0], dtype=torch.uint8)[:, None, None]  # red all over
                samples.images[8] = samples.images[2]
            elif split == "val":
                samples.images[1] = super().load_split("train").images[0]
            return samples

    survey = full_survey(Twice(train=33, val=5))
    assert kinds_and_files(survey) == {
        ("constant", "sample 4 of train"),
        ("duplicate", "sample 8 of train"),
        ("leak", "sample 1 of val"),
        ("label-conflict", "sample 1 of val"),
    }


def test_unusable_data_are_one_fault():
    class Lost(Photos):
        def load_split(self, split):
            raise UserError("labels.txt: no such file")

    faults = full_survey(Lost()).faults
    assert [(fault.kind, fault.message) for fault in faults] == [
        ("unusable", "training would stop here: labels.txt: no such file")
    ]


@pytest.mark.parametrize(
    ("counts", "is_said"), [({"train": [1, 20]}, True), ({"train": [1, 20], "val": [1, 2]}, False)]
)
def test_class_with_one_image_is_reported_as_not_split_off(counts, is_said):
    (rare,) = class_faults(["owl", "cat"], counts)
    assert "'owl' has 1 of 21 training examples" in rare.message
    assert ("not split off for validation" in rare.message) == is_said
