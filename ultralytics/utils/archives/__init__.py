"""Zip files that are read as data: the bounds of their tables of contents, and packs of a model."""
