"""Read boxes from COCO, Pascal VOC and YOLO, and list faults instead of raising them.

`recognition` recognises the format of a data set. `coco`, `voc` and `yolo` each have a subclass of `BoxFormat`, which
reads a split into a `Reading`, with an `Annotation` for each image. `yolo_layout` finds the images of YOLO's format.
`cleaning.clean_split` converts a `Reading` to `PackedTargets`. `annotation` defines these classes.
"""
