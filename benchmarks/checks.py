"""What `project.check` finds of planted faults, and its speed against plain decoding.

    python benchmarks/checks.py [--images FOLDER] [--files 5000]

Made scenes by seed, as a data set of each task that is there; of each kind ten faults are planted among clean images.
Wanted: all found, at most 1 % of the clean files alarmed. Then the speed of reading FOLDER's images (or made 640x480
JPEGs), repeated to 5,000 files: all checks, against decoding the same files with PIL and as many processes. Wanted: at
least 0.8.
"""

import argparse
import importlib
import io
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import project  # noqa: F401  before torch, as the verbs do: it sets how torch's threads wait

# isort: split
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from torch.utils.data import DataLoader, Dataset

from kit.checks.survey import full_survey
from kit.ground.threads import available_cores

EACH = 10
CLEAN = {"train": 600, "val": 200}
HEIGHT, WIDTH = 96, 128


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """A scene of its own: soft patches, noise, and things with edges."""
    random = np.random.default_rng(number)
    patches = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(patches) + random.normal(0, 8, (height, width, 3))
    for _ in range(8):
        tall, wide = random.integers(height // 12, height // 4), random.integers(width // 12, width // 4)
        y, x = random.integers(0, height - tall), random.integers(0, width - wide)
        pixels[y : y + tall, x : x + wide] = random.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Scenes:
    """Clean images of train and val in files, each to be spoilt at most once."""

    def __init__(self, root: Path, path: str) -> None:
        self.root, self.planted, self.touched = root, [], set()
        self.files: dict[str, list[Path]] = {}
        number = 0
        for split, count in CLEAN.items():
            self.files[split] = [root / path.format(split=split, number=n) for n in range(number, number + count)]
            for file in self.files[split]:
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(number).save(file, quality=92)
                number += 1
        self.clean = {str(file) for files in self.files.values() for file in files}
        self.fresh = {split: iter(files) for split, files in self.files.items()}

    def take(self, split: str = "train") -> Path:
        """A clean file that is touched now."""
        file = next(self.fresh[split])
        self.touched.add(str(file))
        return file

    def plant(self, kind: str, file: object, text: str = "") -> None:
        """Notes what must be found: `kind` at `file`, with `text` in the message."""
        self.planted.append((kind, str(file), text))


def pixels(change: Callable[[Image.Image], Image.Image], quality: int = 92) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with Image.open(file) as image:
            changed = change(image.convert("RGB"))
        changed.save(file, "JPEG", quality=quality)

    return spoil


def as_png(file: Path) -> None:
    with Image.open(file) as image:
        image.save(stream := io.BytesIO(), "PNG")
    file.write_bytes(stream.getvalue())


def few_shades(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, (120, 120, 120))
    flat.paste((170, 170, 170), (30, 40, 60, 50))
    return flat


SPOILT: dict[str, Callable[[Path], object]] = {
    "image-missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "not-an-image": lambda file: file.write_text("<html>404 Not Found</html>"),
    "unreadable": lambda file: file.write_bytes(file.read_bytes()[:-700]),
    "wrong-extension": as_png,
    "cmyk": pixels(lambda image: image.convert("CMYK")),
    "mixed-colour": pixels(lambda image: image.convert("L")),
    "odd-size": pixels(lambda image: image.resize((32, 24))),
    "odd-aspect": pixels(lambda image: image.resize((300, 50))),
    "constant": pixels(lambda image: Image.new("RGB", image.size, "teal")),
    "low-information": pixels(few_shades),
    "dark": pixels(lambda image: ImageEnhance.Brightness(image).enhance(0.15)),
    "bright": pixels(lambda image: image.point(lambda value: 246 + value // 30)),
    "blurred": pixels(lambda image: image.filter(ImageFilter.GaussianBlur(4))),
}


def classification(root: Path) -> tuple[Scenes, object]:
    """A table of images of two classes, and all that needs no annotation but a label."""
    scenes = Scenes(root, "{split}/{number}.jpg")
    rows = {str(f): [f, "ab"[n % 2], split, n] for split, files in scenes.files.items() for n, f in enumerate(files)}
    for row in rows.values():
        row[3] = f"{row[2]}{row[3]}"
    for kind, spoil in SPOILT.items():
        for _ in range(EACH):
            spoil(file := scenes.take())
            scenes.plant(kind, file)
    for n in range(EACH):
        for kind, split, label in (
            ("duplicate", "train", None),
            ("near-duplicate", "train", None),
            ("leak", "val", None),
            ("near-leak", "val", None),
            ("label-conflict", "train", "ab"),
        ):
            source, target = scenes.take(), root / f"{split}/{kind}{n}.jpg"
            own = rows[str(source)][1]
            with Image.open(source) as image:
                smaller = image.resize((100, 76))
            if kind.startswith("near"):
                ImageEnhance.Brightness(smaller).enhance(1.08).save(target, quality=70)
            else:
                target.write_bytes(source.read_bytes())
            rows[str(target)] = [target, own if label is None else label[own == "a"], split, f"copy{kind}{n}"]
            scenes.plant(kind, target)
        deep, clear = root / f"train/deep{n}.png", root / f"train/clear{n}.png"
        values = np.asarray(picture(50_000 + n).convert("L")).astype(np.uint16) * 257
        Image.fromarray(values).save(deep)
        transparent = picture(60_000 + n)
        transparent.putalpha(230)
        transparent.save(clear)
        for kind, file in (("sixteen-bit", deep), ("alpha", clear)):
            rows[str(file)] = [file, "a", "train", f"{kind}{n}"]
            scenes.plant(kind, file)
        rows[str(scenes.take())][3] = rows[str(file := scenes.take("val"))][3] = f"patient{n}"
        scenes.plant("group-straddles", file)
        rows[str(scenes.take())][1] = f"rare{n}"
        scenes.plant("class-rare", "", f"'rare{n}'")
        scenes.plant("class-missing", "", f"val has no example of 'rare{n}'")
        for spelling in (f"Twice {n}", f"twice_{n}"):
            rows[str(scenes.take())][1] = spelling
        scenes.plant("class-spelled-twice", "", f"'twice_{n}'")
        picture(70_000 + n).save(file := root / f"train/unlisted{n}.jpg")
        scenes.plant("annotation-missing", file)
    table = [
        "path,label,split,group",
        *(",".join(map(str, [row[0].relative_to(root), *row[1:]])) for row in rows.values()),
    ]
    for n in range(EACH):
        table.append(f"train/{n}.jpg,,train,x")
        scenes.plant("no-label", root / "labels.csv")
    (root / "labels.csv").write_text("\n".join(table))
    return scenes, {"root": str(root)}


def detection(root: Path) -> tuple[Scenes, object]:
    """VOC's XML."""
    scenes = Scenes(root, "JPEGImages/{split}{number}.jpg")
    boxes = {
        str(file): [("a", 10, 10, 50, 40), ("b", 60, 20, 90, 80)] for files in scenes.files.values() for file in files
    }
    sizes: dict[str, tuple[int, int]] = {}
    wrong = {
        "box-without-area": ("a", 20, 20, 20, 40),
        "box-corners-swapped": ("a", 80, 70, 40, 50),
        "box-out-of-bounds": ("a", 100, 20, 180, 60),
        "box-duplicated": ("a", 10, 10, 50, 40),
    }
    for kind, box in wrong.items():
        for _ in range(EACH):
            boxes[str(file := scenes.take())].append(box)
            scenes.plant(kind, _xml(file))
    for _ in range(EACH):
        sizes[str(file := scenes.take())] = (HEIGHT * 3, WIDTH)
        scenes.plant("size-mismatch", _xml(file))
        with Image.open(file := scenes.take()) as image:
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(file, exif=exif, quality=92)
        sizes[str(file)] = (HEIGHT, WIDTH)
        scenes.plant("exif-rotated-boxes", _xml(file))
        boxes.pop(str(file := scenes.take()))
        scenes.plant("annotation-missing", file)
        (file := scenes.take()).unlink()
        scenes.plant("image-missing", _xml(file))
        scenes.plant("annotation-unreadable", _xml(scenes.take()))
    for file, objects in boxes.items():
        height, width = sizes.get(file, (HEIGHT, WIDTH))
        parts = [f"<annotation><size><width>{width}</width><height>{height}</height></size>"]
        for name, *corners in objects:
            places = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
            parts.append(f"<object><name>{name}</name><bndbox>{places}</bndbox></object>")
        _xml(Path(file)).parent.mkdir(exist_ok=True)
        _xml(Path(file)).write_text("\n".join([*parts, "</annotation>"]))
    for kind, file, _ in scenes.planted:
        if kind == "annotation-unreadable":
            Path(file).write_text(Path(file).read_text()[:-20])
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, files in scenes.files.items():
        (lists / f"{split}.txt").write_text("\n".join(file.stem for file in files))
    return scenes, {"root": str(root), "image_size": (HEIGHT, WIDTH)}


def _xml(file: Path) -> Path:
    return file.parent.parent / "Annotations" / f"{file.stem}.xml"


def segmentation(root: Path) -> tuple[Scenes, object]:
    """Masks of ids, 0 to 2."""
    scenes = Scenes(root, "images/{split}/{number}.jpg")
    for files in scenes.files.values():
        for file in files:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[20:50, 30:70], mask[60:80] = 1, 2
            _mask(file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(_mask(file))
    for _ in range(EACH):
        for kind, id, size in (
            ("mask-id-unknown", 9, (HEIGHT, WIDTH)),
            ("mask-all-ignored", 255, (HEIGHT, WIDTH)),
            ("mask-size-mismatch", 1, (HEIGHT, WIDTH * 2)),
        ):
            mask = np.full(size, id, np.uint8)
            Image.fromarray(mask).save(_mask(file := scenes.take()))
            scenes.plant(kind, _mask(file))
        file = _mask(scenes.take())
        Image.fromarray(mask // 255).convert("L").save(file, "JPEG")
        scenes.plant("mask-is-jpeg", file)
        _mask(file := scenes.take()).unlink()
        scenes.plant("mask-missing", file)
        (file := scenes.take()).unlink()
        scenes.plant("image-missing", _mask(file))
    return scenes, {"root": str(root), "image_size": (HEIGHT, WIDTH), "class_names": ["ground", "one", "two"]}


def _mask(file: Path) -> Path:
    return file.parent.parent.parent / "masks" / file.parent.name / f"{file.stem}.png"


TASKS = {
    "project.classification.ImageFolder": classification,
    "project.detection.BoxFolder": detection,
    "project.segmentation.MaskFolder": segmentation,
}


def planted() -> None:
    print(f"{'kind':24}{'planted':>9}{'found':>8}")
    total, hits, clean, alarmed = 0, 0, 0, 0
    for class_path, make in TASKS.items():
        module, _, name = class_path.rpartition(".")
        try:
            kind_of_data = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        with tempfile.TemporaryDirectory() as folder:
            scenes, options = make(Path(folder))
            faults = full_survey(kind_of_data(**options)).faults
        by_place: dict[tuple[str, str], str] = {}
        for fault in faults:
            by_place[fault.kind, fault.file] = by_place.get((fault.kind, fault.file), "") + fault.message
        found = Counter(kind for kind, file, text in scenes.planted if text in by_place.get((kind, file), "\0"))
        counts = Counter(kind for kind, _, _ in scenes.planted)
        for kind, count in counts.items():
            print(f"{kind:24}{count:9}{found[kind]:8}")
        untouched = scenes.clean - scenes.touched
        stems = {str(Path(file).with_suffix("").name) for file in untouched}
        alarms = {fault.file for fault in faults if fault.file in untouched or _stem_among(fault.file, stems)}
        total, hits = total + counts.total(), hits + found.total()
        clean, alarmed = clean + len(untouched), alarmed + len(alarms)
    print(f"{'all':24}{total:9}{hits:8}   wanted: all")
    print(f"clean files {clean}, alarmed {alarmed} ({alarmed / clean:.2%})   wanted: <= 1 %")


def _stem_among(file: str, stems: set[str]) -> bool:
    """Of an annotation file, whether its image is one of those."""
    return bool(file) and Path(file).suffix in (".xml", ".png") and Path(file).stem in stems


class Decoding(Dataset):
    """What reading every image costs at least: PIL, in its own colours, 32 at a time."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return -(-len(self.paths) // 32)

    def __getitem__(self, chunk: int) -> int:
        for path in self.paths[chunk * 32 : chunk * 32 + 32]:
            with Image.open(path) as image:
                image.load()
        return chunk


def speed(images: Path | None, files: int, rounds: int) -> None:
    from project.classification import ImageFolder

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "train"
        sources = sorted(p for p in images.rglob("*.jpg")) if images else []
        if not images:
            for number in range(200):
                picture(number, 480, 640).save(file := Path(folder) / f"made{number}.jpg", quality=90)
                sources.append(file)
        for number in range(files):
            target = root / "ab"[number % 2] / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sources[number % len(sources)].read_bytes())
        paths = [str(path) for path in sorted(root.rglob("*.jpg"))]
        data = ImageFolder(str(folder))
        seconds: dict[str, list[float]] = {"decoding": [], "check": []}
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for _ in DataLoader(Decoding(paths), batch_size=None, num_workers=available_cores()):
                pass
            seconds["decoding"].append(time.perf_counter() - started)
            started = time.perf_counter()
            full_survey(data)
            seconds["check"].append(time.perf_counter() - started)
    decoding, check = (statistics.median(times[1:]) for times in seconds.values())
    ratio = statistics.median(a / b for a, b in list(zip(*seconds.values(), strict=True))[1:])
    print(f"{'':12}{'files/s':>10}{'ratio':>8}   wanted")
    print(f"{'decoding':12}{files / decoding:10,.0f}{1:8.2f}")
    print(f"{'check':12}{files / check:10,.0f}{ratio:8.2f}   >= 0.8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs, instead of made ones")
    parser.add_argument("--files", type=int, default=5000, help="(5000)")
    parser.add_argument("--rounds", type=int, default=3, help="of both in turns (3), after one that does not count")
    options = parser.parse_args()
    planted()
    print()
    speed(options.images, options.files, options.rounds)


if __name__ == "__main__":
    main()
