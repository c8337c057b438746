"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`coco`, `voc` and `yolo` read a format into the `Annotation` and `Reading` of `annotation`, where `clean_split` makes
targets of these.
"""
