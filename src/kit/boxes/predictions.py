"""Boxes found in images: one file of all, and pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2.functional import to_pil_image

from kit.boxes.pictures import draw
from kit.data.decode import decode
from kit.ground.files import replacing


class Predictions:
    """`predictions.json`, a list of COCO's results, each with its `file_name`; and `pictures/NAME.jpg`.

    `image_id` is the file's name without its ending: a number where it is one, as COCO's are, and no earlier image has
    the same (`1` after `0001` stays a text). `category_id` counts from 1, in the order of the classes; the name stands
    beside it.

    Args:
        folder: where they are written.
        class_names: the model's.
        pictures: draw the boxes.
        score: of the boxes that are drawn, the least; the file has all.
    """

    FOLDERS = ("pictures",)

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: bool = True, score: float = 0.5) -> None:
        self.class_names, self.pictures, self.score = class_names, folder / "pictures" if pictures else None, score
        self.file, self.part = folder / "predictions.json", folder / "predictions.json.part"
        self.lines = self.part.open("w", encoding="utf-8", errors="backslashreplace")  # JSON's own escape, too
        self.numbered: dict[int, str] = {}
        self.written = 0

    def picture(self, file: Path, name: str, found: dict[str, Tensor]) -> None:
        if self.pictures is None:
            return
        drawn = draw(decode(file, 3, None), self.class_names, found, least_score=self.score)
        place = self.pictures / f"{name}.jpg"
        with replacing(place) as part:
            to_pil_image(drawn).save(part, "JPEG", quality=90)

    def add(self, file: Path, name: str, found: dict[str, Tensor]) -> None:
        number = int(name) if name.isascii() and name.isdecimal() else None
        alone = number is not None and self.numbered.setdefault(number, name) == name
        boxes = box_convert(found["boxes"], "xyxy", "xywh").double().round(decimals=2).tolist()
        for box, score, label in zip(boxes, found["scores"].tolist(), found["labels"].tolist(), strict=True):
            result = {
                "image_id": number if alone else name,
                "file_name": str(file),
                "category_id": label,
                "category": self.class_names[label - 1],
                "bbox": box,
                "score": round(score, 6),
            }
            self.lines.write(f"{',' if self.written else '['}\n{json.dumps(result, ensure_ascii=False)}")
            self.written += 1

    def finish(self) -> list[Path]:
        self.lines.write("\n]\n" if self.written else "[]\n")
        self.lines.close()
        self.part.replace(self.file)
        return [self.file, *([self.pictures] if self.pictures and self.pictures.is_dir() else [])]
