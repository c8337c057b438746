"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`coco`, `voc` and `yolo` read a format into the `Annotation` and `Reading` of `annotation`. `cleaning` turns these into
targets.
"""

from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import Annotation, Reading, missing_annotation

__all__ = ["Annotation", "Reading", "coco", "missing_annotation", "voc", "yolo"]
