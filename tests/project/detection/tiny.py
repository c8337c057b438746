"""Tiny photographs with boxes, written in each format; and what the configs of this slice need to run on them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

METRIC = "test/map"
RUN = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--data.scenes", "60", "--model.net.widths",
       "[8, 8]", "--model.net.depth", "1", "--model.net.neck", "32", "--model.net.levels", "[1]"]  # fmt: skip
CLASSES = ["cat", "dog", "owl"]


@dataclass
class Picture:
    """An image as it lies in its file, and boxes XYXY in pixels of it when it is upright.

    size: height and width as it is seen. orientation: of EXIF; from 5 the file's sides are swapped.
    """

    name: str = "1.jpg"
    size: tuple[int, int] = (24, 30)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=lambda: [(3, 4, 14, 18), (10, 2, 28, 20)])
    names: list[str] = field(default_factory=lambda: ["cat", "dog"])
    orientation: int = 1
    crowd: list[bool] | None = None

    @property
    def raw_size(self) -> tuple[int, int]:
        return self.size[::-1] if self.orientation > 4 else self.size

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(len(self.name) + sum(self.size))
        exif = Image.Exif()
        exif[0x0112] = self.orientation
        pixels = random.integers(0, 256, (*self.raw_size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / self.name, exif=exif)
        return folder / self.name


def pictures(count: int, prefix: str = "") -> list[Picture]:
    """Of different sizes, each with one to three boxes of different classes."""
    made = []
    for number in range(count):
        boxes = [(2.0 + i, 3.0 + number % 4, 14.0 + 3 * i, 15.0 + i) for i in range(1 + number % 3)]
        names = [CLASSES[(number + i) % 3] for i in range(len(boxes))]
        made.append(Picture(f"{prefix}{number}.jpg", (22 + number % 3, 30 - number % 2), boxes, names))
    return made


def coco(file: Path, some: list[Picture], ids: dict[str, int] | None = None, **changes: Any) -> Path:
    """One JSON file. ids: of the categories. changes: of its top level."""
    ids = ids or {name: number for number, name in enumerate(CLASSES, 1)}
    annotations = [
        {"id": 10 * place + i, "image_id": place, "category_id": ids[name], "iscrowd": int((p.crowd or {i: 0})[i]),
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for place, p in enumerate(some) for i, (box, name) in enumerate(zip(p.boxes, p.names, strict=True))
    ]  # fmt: skip
    entries = [
        {"id": place, "file_name": p.name, "height": p.size[0], "width": p.size[1]} for place, p in enumerate(some)
    ]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": entries, "annotations": annotations, "categories": categories, **changes}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1))
    return file


def voc(folder: Path, some: list[Picture], difficult: bool = False) -> None:
    """An XML file for each picture, a tag a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for p in some:
        lines = ["<annotation>", f"<filename>{p.name}</filename>", "<size>"]
        lines += [f"<width>{p.size[1]}</width>", f"<height>{p.size[0]}</height>", "<depth>3</depth>", "</size>"]
        for i, (box, name) in enumerate(zip(p.boxes, p.names, strict=True)):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            lines += ["<object>", f"<name>{name}</name>", f"<difficult>{int((p.crowd or {i: 0})[i])}</difficult>"]
            lines += ["<bndbox>", *(f"<{tag}>{value}</{tag}>" for tag, value in corners), "</bndbox>", "</object>"]
        (folder / f"{Path(p.name).stem}.xml").write_text("\n".join([*lines, "</annotation>", ""]))


def yolo(folder: Path, some: list[Picture]) -> None:
    """A text file for each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for p in some:
        height, width = p.size
        lines = [
            f"{CLASSES.index(name)} {(x1 + x2) / 2 / width:.9f} {(y1 + y2) / 2 / height:.9f} "
            f"{(x2 - x1) / width:.9f} {(y2 - y1) / height:.9f}\n"
            for (x1, y1, x2, y2), name in zip(p.boxes, p.names, strict=True)
        ]
        (folder / f"{Path(p.name).stem}.txt").write_text("".join(lines))


def save(folder: Path, some: list[Picture]) -> None:
    for picture in some:
        picture.save(folder)


def voc_parts(root: Path, counts: dict[str, int]) -> None:
    """`Annotations`, `JPEGImages` and `ImageSets/Main/SPLIT.txt`."""
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, count in counts.items():
        some = pictures(count, f"{split}_")
        save(root / "JPEGImages", some)
        voc(root / "Annotations", some)
        (lists / f"{split}.txt").write_text("".join(f"{Path(p.name).stem}\n" for p in some))


def coco_parts(root: Path, counts: dict[str, int]) -> None:
    """`annotations/instances_SPLIT2017.json` and `SPLIT2017/`."""
    for split, count in counts.items():
        some = pictures(count)
        save(root / f"{split}2017", some)
        coco(root / "annotations" / f"instances_{split}2017.json", some)


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    if "root" in run["data"]["init_args"]:
        given = ["--data.root", str(folder)]
        coco_parts(folder, {"train": 6, "val": 3, "test": 3})
    else:
        given = ["--data.scenes", "30"]
    if run["model"]["init_args"]["net"].get("init_args", {}).get("pretrained"):
        given += ["--model.net.pretrained", "false"]
    return given
