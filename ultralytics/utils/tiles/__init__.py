"""Tiles of large images: where they lie, and how the boxes that are found in them become one list."""
