"""Recognise the format of a data set with boxes."""

from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.formats.boxes import voc, yolo
from kit.formats.boxes.yolo_layout import dataset_files
from kit.formats.coco_search import LABELME, find_evidence
from kit.formats.folders import paths_below
from kit.formats.paths import compose
from kit.formats.recognition import Evidence, choose_format, possible_formats

EXPECTED = (
    "COCO (train/1.jpg, and either annotations/instances_train.json or train/_annotations.coco.json), "
    "VOC (JPEGImages/1.jpg and Annotations/1.xml), or "
    f"YOLO (images/train/1.jpg and labels/train/1.txt, with data.yaml or classes.txt); {LABELME}"
)


def recognise(root: Path, format: str | None) -> str:
    """Return `format` if it is not None, or else the format of the files below a folder: see `choose_format`.

    A text file is evidence for YOLO if an image has the same name, apart from the extension. Without such text files,
    two other files in `root` are evidence: a YAML file that has the key `names`, or the file `obj.data`. They may list
    images in another folder.
    """
    if format is not None:
        return format
    files = list(map(Path, paths_below(root)))
    image_stems = {compose(file.stem) for file in files if file.suffix.lower() in EXTENSIONS}
    texts = [file for file in files if file.suffix.lower() == ".txt" and compose(file.stem) in image_stems]
    xml_files = [file for file in files if file.suffix.lower() == ".xml"]
    evidence = {
        "coco": find_evidence(root),
        "voc": Evidence(xml_files, "XML file", voc.has_format),
        "yolo": Evidence(texts or dataset_files(root), "text file" if texts else "YAML or data file", yolo.has_format),
    }
    return choose_format(root, possible_formats(evidence), EXPECTED)
