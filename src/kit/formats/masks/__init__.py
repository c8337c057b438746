"""Read masks from mask files and from COCO's JSON.

Read in this order: `masks` defines `MaskFiles`, images whose masks are one more channel, and the `Reader` of masks.
`layouts` finds the mask file of each image. `class_tables` reads the names and colours of classes, `pixel_values`
decides which pixel value is which class, and `mask_images` reads mask files by that. `coco` draws the annotations of
COCO's JSON as masks. `faults` lists the faults in all of these.
"""
