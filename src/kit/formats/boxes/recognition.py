"""Recognise the format of a data set with boxes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from kit.formats import coco_search
from kit.formats.boxes import voc, yolo
from kit.formats.boxes.annotation import Reading
from kit.formats.evidence import found_formats
from kit.formats.folders import files_below
from kit.formats.recognition import choose_format
from kit.ground.faults import Fault

EXPECTED = (
    "COCO (train/1.jpg and annotations/instances_train.json or train/_annotations.coco.json), "
    "VOC (JPEGImages/1.jpg and Annotations/1.xml), or "
    "YOLO (images/train/1.jpg and labels/train/1.txt, with data.yaml or classes.txt)"
)


class BoxFormat(Protocol):
    """A data set with boxes in one of the formats.

    sources: for each split that exists, the files that `read` needs, in any form; train first, if there is one.
    """

    sources: Mapping[str, Any]

    def read(self, split: str) -> Reading:
        """Read the annotations of a split.

        Raises:
            UserError: they cannot be read. Its message begins with the file's path.
        """

    def faults(self, readings: Iterable[Reading]) -> Iterable[Fault]:
        """Yield the faults that belong to no reading. readings: those of all splits that can be read."""


def recognise(root: Path, format: str | None) -> str:
    """Return `format` if it is not None, or else the format of the files below a folder: see `choose_format`."""
    if format is not None:
        return format
    files = list(files_below(root))
    evidence = {
        "coco": coco_search.find_evidence(root),
        "voc": voc.find_evidence(files),
        "yolo": yolo.find_evidence(root, files),
    }
    return choose_format(root, found_formats(evidence), None, EXPECTED)
