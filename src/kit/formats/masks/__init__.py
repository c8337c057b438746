"""Read masks from mask files and from COCO's JSON.

Read in this order: `masks` defines `MaskFiles`, images whose masks are one more channel, and the `Reader` of masks.
`mask_images` reads mask files, and `classes` decides which pixel value is which class. `coco` draws the annotations of
COCO's JSON as masks. `faults` lists the faults in all of these.
"""
