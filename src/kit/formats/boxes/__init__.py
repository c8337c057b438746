"""Read boxes from COCO, Pascal VOC and YOLO. Faults are listed, not raised.

`recognition` finds out the format of a data set. `coco`, `voc` and `yolo` each have a class for a data set in this
format, with the methods of `recognition.BoxFormat`. It reads a split into a `Reading`, which has an `Annotation` for
each image. `cleaning.clean_split` converts a `Reading` to targets.
"""
