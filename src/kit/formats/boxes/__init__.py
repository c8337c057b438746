"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`coco`, `voc` and `yolo` read a format into the `Annotation` and `Reading` of `annotation`, where `clean_split` makes
targets of these.
"""

from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import BoxSplit, Reading, clean_split, missing_annotation

__all__ = ["BoxSplit", "Reading", "clean_split", "coco", "missing_annotation", "voc", "yolo"]
