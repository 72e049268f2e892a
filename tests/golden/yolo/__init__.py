"""Golden cases of the YOLO family: numbers that the reference computed, see `runner`."""
