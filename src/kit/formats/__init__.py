"""Read data sets in the common formats: folders of images, COCO, Pascal VOC, YOLO and mask files.

A reader lists the faults in a data set instead of raising them, so that `check` can report all of them. The modules, in
reading order: `folders` (finding images and splits by the names of folders), `text` (values, lines and XML),
`class_folders` (a folder for each class), `label_table` (a table of labels), `labels` (which of these two a folder
holds), `paths` (finding the images that a file names), `pairs` (matching images with XML files or masks), `coco_search`
and `coco` (COCO's JSON, for boxes and masks), `recognition` (the format of a folder), the package `boxes` (COCO, Pascal
VOC and YOLO) and the package `masks` (mask files and COCO).
"""
