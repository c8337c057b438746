"""Read masks from mask files and from COCO's JSON.

`recognition` finds out the format of a data set, and defines `MaskFormat`. `mask_pairs` and `coco_files` each have a
subclass, which reads the masks of a split. Read in this order: `masks` defines `MaskFiles`, which stacks each image and
its mask, and the protocol `Reader`. `mask_images` reads mask files. `classes` finds the class of each pixel value, and
`class_list` lists the classes, which arguments or a checkpoint may name. `coco` draws COCO's annotations as masks.
`faults` lists the faults in mask files and in COCO's annotations.
"""
