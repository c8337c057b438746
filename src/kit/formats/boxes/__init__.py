"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`recognition` finds out the format of a data set. `coco`, `voc` and `yolo` each have a subclass of `BoxFormat`, which
reads a split into a `Reading`. This has an `Annotation` for each image: see `annotation`, which also has
`PackedTargets`. `yolo_layout` finds the images of YOLO's format. `cleaning.clean_split` converts a `Reading` to
targets.
"""
