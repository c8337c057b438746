"""Recognise the format of a data set with boxes."""

import os
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.formats.boxes import voc, yolo
from kit.formats.boxes.yolo_layout import listings
from kit.formats.coco_search import find_evidence, refuse_labelme
from kit.formats.folders import paths_below
from kit.formats.paths import compose
from kit.formats.recognition import Evidence, choose_format, found_formats

EXPECTED = (
    "COCO (train/1.jpg and annotations/instances_train.json or train/_annotations.coco.json), "
    "VOC (JPEGImages/1.jpg and Annotations/1.xml), or "
    "YOLO (images/train/1.jpg and labels/train/1.txt, with data.yaml or classes.txt)"
)


def recognise(root: Path, format: str | None) -> str:
    """Return `format` if it is not None, or else the format of the files below a folder: see `choose_format`.

    YOLO's text files are named like an image. If there are none, a YAML file with `names`, or `obj.data`, in `root`
    counts, since the images may be in another folder.
    """
    if format is not None:
        return format
    stems: dict[str, dict[str, str]] = {extension: {} for extension in (".json", ".xml", ".txt", *EXTENSIONS)}
    for path in paths_below(root):
        stem, _, extension = path.rpartition(os.sep)[2].rpartition(".")
        if (extension := f".{extension.lower()}") in stems:
            stems[extension][path] = stem
    image_stems = {compose(stem) for extension in EXTENSIONS for stem in stems[extension].values()}
    texts = [path for path, stem in stems[".txt"].items() if compose(stem) in image_stems]
    evidence = {
        "coco": find_evidence(root),
        "voc": Evidence(list(stems[".xml"]), "XML file", voc.has_format),
        "yolo": Evidence(texts or listings(root), "text file" if texts else "YAML or data file", yolo.has_format),
    }
    formats = found_formats(evidence)
    if not formats and stems[".json"]:
        refuse_labelme(Path(next(iter(stems[".json"]))))
    return choose_format(root, formats, EXPECTED)
