"""What lies on disk: folders of images, tables, COCO, VOC, YOLO and mask files."""
