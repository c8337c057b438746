"""Masks in the formats that people have them in: pairs of files, tables of classes, coloured masks, COCO."""
