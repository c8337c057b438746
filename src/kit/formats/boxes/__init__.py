"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`coco`, `voc` and `yolo` each read a split into a `Reading`, which has an `Annotation` for each image.
`cleaning.clean_split` converts a `Reading` to targets.
"""
