"""Boxes in the formats that people have them in, read without complaint: what is wrong is listed, not raised."""

from project.detection.formats import coco, voc, yolo
from project.detection.formats.annotation import Annotation, Reading, unreadable
from project.detection.formats.mending import headers, usable

__all__ = ["Annotation", "Reading", "coco", "headers", "unreadable", "usable", "voc", "yolo"]
