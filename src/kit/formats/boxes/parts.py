"""A part of a data set: the targets of its images, and what is wrong with what is written about them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kit.formats.boxes import Annotation, Reading, headers, usable
from kit.formats.coco import crowds_alone
from kit.ground.errors import UserError
from kit.ground.faults import Fault

RAISED = ("annotation-unreadable", "class-unknown")  # nothing sensible can be done with these
LEFT_OUT = ("box-without-area", "box-wrong-unit")  # with these, a box can be left out


class Part(NamedTuple):
    """The annotated images of a split.

    targets: one for each annotation, see `kit.boxes.targets`; without boxes if the image cannot be read.
    class_names: the names of the labels 1 to K.
    """

    annotations: list[Annotation]
    targets: list[dict[str, Any]]
    faults: list[Fault]
    unreadable: list[Path]
    class_names: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        return [annotation.image for annotation in self.annotations]

    def mended(self) -> str:
        """What had to be left out or mended, counted: `box-out-of-bounds 3, box-duplicated 1`."""
        kinds = Counter(fault.kind for fault in self.faults)
        return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())

    def crowds(self) -> dict[str, tuple[int, int]]:
        """Return, for each class with crowds, the number of its crowds and of all its boxes."""
        labels = torch.cat([torch.empty(0, dtype=torch.long), *(target["labels"] for target in self.targets)])
        is_crowd = torch.cat([torch.empty(0, dtype=torch.bool), *(target["crowd"] for target in self.targets)])
        size = len(self.class_names) + 1
        boxes, crowds = (torch.bincount(some, minlength=size).tolist() for some in (labels, labels[is_crowd]))
        return {name: (crowds[label], boxes[label]) for label, name in enumerate(self.class_names, 1) if crowds[label]}

    def lack(self, split: str) -> str:
        """Return why too little is left to train on or to measure.

        Returns:
            an empty text if enough is left, or if no image can be read
        """
        if self.annotations and len(self.unreadable) == len(self.annotations):
            return ""  # the search for images that cannot be decoded gives a better message
        lost = sum(fault.kind in LEFT_OUT for fault in self.faults)
        said = f" ({self.mended()})" if self.faults else ""
        if not self.targets:
            return f"most of {split} cannot be used{said or ' (no images)'}"
        if sum(len(target["boxes"]) for target in self.targets) < lost:
            return f"most of {split} cannot be used{said}"
        if split == "train" and (alone := [name for name, (crowds, boxes) in self.crowds().items() if crowds == boxes]):
            return crowds_alone(alone)
        if split == "train" and not any(len(target["boxes"]) for target in self.targets):
            first = self.annotations[0]
            where = f"; the first image's were looked for in {first.file}" if first.file != first.image else ""
            return f"{split} has no box to learn from{said}{where}"
        return ""

    def stop_if_unusable(self, split: str, root: Path) -> None:
        """
        Raises:
            UserError: an annotation cannot be used, or hardly any box is left.
        """
        for fault in self.faults:
            if fault.kind in RAISED:
                line = f":{fault.line}" if fault.line else ""
                raise UserError(f"{fault.file}{line}: {fault.message}")
        if lack := self.lack(split):
            raise UserError(f"{root}: {lack}")


def part_of(reading: Reading, class_names: Sequence[str]) -> Part:
    labels = {name: label for label, name in reversed(list(enumerate(class_names, 1)))}  # 0 is the background
    part = Part(reading.annotations, [], list(reading.faults), [], class_names)
    for annotation, header in zip(reading.annotations, headers(part.paths), strict=True):
        if header is None:
            part.unreadable.append(annotation.image)
            annotation, header = Annotation(annotation.image, annotation.file), ((1, 1), 1)
        target, wrong = usable(annotation, header, labels)
        part.targets.append(target)
        part.faults.extend(wrong)
    return part
