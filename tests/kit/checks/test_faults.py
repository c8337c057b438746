"""Every kind of fault, planted once among clean images, is found at the right file; clean images give none."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from photos import CLEAN, Photos, picture, write
from PIL import Image, ImageEnhance, ImageFilter
from tiny_task import Shades

from kit.checks.survey import Survey, full_survey, quick_survey
from kit.ground.errors import UserError
from kit.ground.faults import KINDS

HERE = Path("photos/train/cat/5.jpg")  # the file that is spoilt, unless its kind says another


@pytest.fixture(autouse=True)
def photos() -> None:
    write()


def again(change: Callable[[Image.Image], Image.Image], path: Path = HERE, **saving) -> None:
    with Image.open(path) as image:
        image.load()
    change(image).save(path, **{"quality": 92, **saving})


def spoil(change: Callable[[bytes], bytes]) -> None:
    HERE.write_bytes(change(HERE.read_bytes()))


def copy(source: str, target: str) -> str:
    shutil.copy(f"photos/{source}", f"photos/{target}")
    return f"photos/{target}"


def as_format(name: str) -> None:
    stream = io.BytesIO()
    with Image.open(HERE) as image:
        image.save(stream, name)
    HERE.write_bytes(stream.getvalue())


def near_copy(source: str, target: str) -> str:
    """Smaller, lighter and compressed harder."""
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
    Image.fromarray(pixels).convert("RGB").save(HERE, quality=95)


def rare_class() -> None:
    for place in range(2, 12):
        Path(f"photos/train/dog/{place}.jpg").unlink()


def other_spelling() -> None:
    for split in CLEAN:
        Path(f"photos/{split}/Cat_").mkdir()
        for place in range(10):
            picture(1000 + place + len(split) * 100).save(f"photos/{split}/Cat_/{place}.jpg")


def alpha() -> str:
    image = picture(77)
    image.putalpha(240)
    image.save("photos/val/cat/x.png")
    return "photos/val/cat/x.png"


def missing_class() -> str:
    shutil.rmtree("photos/val/dog")
    return ""


# kind: how it is planted; what that returns is where it shows, None being HERE.
PLANTS: dict[str, Callable[[], str | None]] = {
    "empty": lambda: spoil(lambda content: b""),
    "not-an-image": lambda: spoil(lambda content: b"<html>404</html>"),
    "unreadable": lambda: spoil(lambda content: content[:-900]),
    "wrong-extension": lambda: as_format("PNG"),
    "sixteen-bit": sixteen_bit,
    "alpha": alpha,
    "cmyk": lambda: again(lambda image: image.convert("CMYK")),
    "mixed-colour": lambda: again(lambda image: image.convert("L")),
    "odd-size": lambda: again(lambda image: image.resize((20, 24))),
    "odd-aspect": lambda: again(lambda image: image.resize((240, 40))),
    "constant": lambda: again(lambda image: Image.new("RGB", image.size, "teal")),
    "low-information": few_shades,
    "dark": lambda: again(lambda image: ImageEnhance.Brightness(image).enhance(0.15)),
    "bright": lambda: again(lambda image: image.point(lambda value: 246 + value // 30)),
    "blurred": lambda: again(lambda image: image.filter(ImageFilter.GaussianBlur(4))),
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


def found(survey: Survey) -> set[tuple[str, str]]:
    return {(fault.kind, fault.file) for fault in survey.faults}


@pytest.mark.parametrize("kind", PLANTS)
def test_what_is_planted_is_found_where_it_is_and_nothing_else(kind):
    where = PLANTS[kind]()
    where = str(HERE) if where is None else where
    survey = full_survey(Photos())
    assert (kind, where) in found(survey)
    with_it = {"sixteen-bit": {("mixed-colour", where)}}  # what is true as well
    assert found(survey) - {(kind, where)} <= with_it.get(kind, set())
    assert {fault.severity for fault in survey.faults if fault.kind == kind} == {KINDS[kind]}
    if kind in QUICK:
        assert (kind, where) in found(quick_survey(Photos()))


def test_clean_images_give_nothing():
    assert full_survey(Photos()).faults == quick_survey(Photos(), whole=True).faults == []


def test_the_same_pixels_in_another_format_are_a_leak():
    copied = pixel_copy("train/dog/2.jpg", "val/dog/x.png")
    faults = full_survey(Photos()).faults
    assert [(fault.kind, fault.file, fault.other) for fault in faults] == [("leak", copied, "photos/train/dog/2.jpg")]


def test_many_copies_are_told_once_each_and_across_splits_first():
    for target in ("train/cat/x.jpg", "train/dog/y.jpg", "val/cat/z.jpg"):
        copy("train/cat/0.jpg", target)
    assert found(full_survey(Photos())) == {
        ("duplicate", "photos/train/cat/x.jpg"),
        ("label-conflict", "photos/train/dog/y.jpg"),
        ("leak", "photos/val/cat/z.jpg"),
    }


def test_groups_that_straddle_splits():
    for split, name in (("train", "cat"), ("val", "dog")):
        picture(len(split) + 500).save(f"photos/{split}/{name}/p7_1.jpg")
    faults = full_survey(Photos(group=r"^(p\d+_|\d+)")).faults
    straddling = [fault for fault in faults if fault.kind == "group-straddles"]
    assert ("photos/val/dog/p7_1.jpg", "photos/train/cat/p7_1.jpg") in [(f.file, f.other) for f in straddling]
    assert len({fault.message for fault in straddling}) == len(straddling)


def test_images_without_files_are_looked_at_too():
    clean = Shades(train=33, val=5)
    assert full_survey(clean).faults == quick_survey(clean).faults == []

    class Twice(Shades):
        def load_split(self, split):
            samples = super().load_split(split)
            if split == "train":
                samples.images[4] = 7
                samples.images[8] = samples.images[2]
            elif split == "val":
                samples.images[1] = super().load_split("train").images[0]
            return samples

    survey = full_survey(Twice(train=33, val=5))
    assert found(survey) == {
        ("constant", "sample 4 of train"),
        ("duplicate", "sample 8 of train"),
        ("leak", "sample 1 of val"),
        ("label-conflict", "sample 1 of val"),
    }


def test_data_that_cannot_be_had_are_one_fault():
    class Lost(Photos):
        def load_split(self, split):
            raise UserError("labels.txt: no such file")

    faults = full_survey(Lost()).faults
    assert [(fault.kind, fault.message) for fault in faults] == [
        ("unusable", "training would stop here: labels.txt: no such file")
    ]
