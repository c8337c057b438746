"""Boxes in the formats that people have them in, read without complaint: what is wrong is listed, not raised."""

from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import Annotation, Reading, unreadable
from kit.formats.boxes.mending import headers, usable

__all__ = ["Annotation", "Reading", "coco", "headers", "unreadable", "usable", "voc", "yolo"]
