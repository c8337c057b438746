"""Read masks from mask files and from COCO's JSON.

`data_sets` recognises the format of a data set, and defines the interface `MaskFormat` and its subclass for COCO;
`mask_files` has the subclass for mask files. `masks` defines `MaskFiles`, which stacks each image and its mask, and the
protocol `Reader`. `mask_images` reads mask files. `classes` finds the class of each pixel value. `coco` draws COCO's
annotations as masks. `faults` lists the faults in masks.
"""
