"""Every kind of fault, planted once among clean images, is found at the right file; clean images give none."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from project.checks.faults import KINDS
from project.checks.survey import Survey, quick, thorough
from project.classification import Csv, Digits, ImageFolder

CLEAN = {"train": {"cat": 12, "dog": 12}, "val": {"cat": 3, "dog": 3}}
HERE = Path("photos/train/cat/5.jpg")  # the file that is spoilt, unless its kind says another


def picture(number: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A colourful scene of its own: soft patches, and edges."""
    random = np.random.default_rng(number)
    height, width = size
    patches = Image.fromarray(random.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(patches).astype(int) + random.normal(0, 9, (height, width, 3))
    for _ in range(5):
        y, x = random.integers(0, height - 12), random.integers(0, width - 12)
        pixels[y : y + 12, x : x + random.integers(5, 12)] = random.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def photos() -> Path:
    number = 0
    for split, classes in CLEAN.items():
        for name, count in classes.items():
            folder = Path("photos") / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                picture(number).save(folder / f"{place}.jpg", quality=92)
                number += 1
    return Path("photos")


def data(**options) -> ImageFolder:
    return ImageFolder(root="photos", image_size=(16, 16), **options)


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
    "annotation-missing": lambda: copy("train/cat/1.jpg", "train/x.jpg"),
    "ignored-file": lambda: copy("train/cat/1.jpg", "train/cat/x.heic"),
    "class-unknown": lambda: shutil.copytree("photos/val/cat", "photos/val/cow") and "photos/val/cow",
    "class-empty": lambda: Path("photos/train/cow").mkdir() or "photos/train/cow",
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
def test_what_is_planted_is_found_where_it_is_and_nothing_else(kind, photos):
    where = PLANTS[kind]()
    where = str(HERE) if where is None else where
    survey = thorough(data())
    assert (kind, where) in found(survey)
    with_it = {"sixteen-bit": {("mixed-colour", where)}, "class-empty": {("class-missing", "")}}  # what is true as well
    assert found(survey) - {(kind, where)} <= with_it.get(kind, set())
    assert {fault.severity for fault in survey.faults if fault.kind == kind} == {KINDS.get(kind) or own_severity(kind)}
    if kind in QUICK:
        assert (kind, where) in found(quick(data()))


def own_severity(kind: str) -> str:
    return "warning" if kind in ("annotation-missing", "ignored-file") else "error"


def test_clean_images_give_nothing(photos):
    assert thorough(data()).faults == quick(data(), whole=True).faults == []


def test_the_same_pixels_in_another_format_are_a_leak(photos):
    copied = pixel_copy("train/dog/2.jpg", "val/dog/x.png")
    faults = thorough(data()).faults
    assert [(fault.kind, fault.file, fault.other) for fault in faults] == [("leak", copied, "photos/train/dog/2.jpg")]


def test_many_copies_are_told_once_each_and_across_splits_first(photos):
    for target in ("train/cat/x.jpg", "train/dog/y.jpg", "val/cat/z.jpg"):
        copy("train/cat/0.jpg", target)
    assert found(thorough(data())) == {
        ("duplicate", "photos/train/cat/x.jpg"),
        ("label-conflict", "photos/train/dog/y.jpg"),
        ("leak", "photos/val/cat/z.jpg"),
    }


def test_groups_that_straddle_splits(photos):
    for split, name in (("train", "cat"), ("val", "dog")):
        picture(len(split) + 500).save(f"photos/{split}/{name}/p7_1.jpg")
    faults = thorough(data(group=r"^(p\d+_|\d+)")).faults
    straddling = [fault for fault in faults if fault.kind == "group-straddles"]
    assert ("photos/val/dog/p7_1.jpg", "photos/train/cat/p7_1.jpg") in [(f.file, f.other) for f in straddling]
    assert len({fault.message for fault in straddling}) == len(straddling)


def test_a_table_with_faults_in_its_rows(photos):
    rows = ["path,label,split", "train/cat/0.jpg,cat,train", "train/cat/1.jpg,,train", "train/dog/0.jpg,dog,train"]
    rows += ["train/dog/1.jpg,dog,trial", "gone.jpg,cat,train", "val/cat/0.jpg,cow,val", "val/cat/1.jpg,cat,val"]
    (photos / "labels.csv").write_text("\n".join(rows))
    survey = thorough(Csv(root="photos"))
    lines = {(fault.kind, fault.line) for fault in survey.faults if fault.line}
    assert lines == {("no-label", 3), ("unknown-split", 5), ("class-unknown", 7)}
    assert ("image-missing", "photos/gone.jpg") in found(survey)
    assert ("annotation-missing", "photos/val/dog/0.jpg") in found(survey)


def test_images_without_files_are_looked_at_too():
    assert thorough(Digits()).faults == []
    assert quick(Digits()).faults == []


@pytest.mark.parametrize("text", ["no rows", "path,label\n"])
def test_data_that_cannot_be_had_are_one_fault(text, photos):
    (photos / "labels.csv").write_text(text)
    faults = thorough(Csv(root="photos")).faults
    assert [fault.kind for fault in faults] == ["unusable"]
    assert "labels.csv" in faults[0].message
