"""Read masks from mask files and from COCO's JSON.

`data_sets` recognises the format of a data set, and defines `MaskFormat` and its two subclasses, which read the masks
of a split. `masks` defines `MaskFiles`, which stacks each image and its mask, and the protocol `Reader`. `mask_images`
reads mask files. `classes` finds the class of each pixel value, and `class_list` lists the classes, which arguments or
a checkpoint may name. `coco` draws COCO's annotations as masks. `faults` lists the faults in masks.
"""
