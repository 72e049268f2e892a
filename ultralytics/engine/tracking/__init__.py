"""Tracking: ids for the boxes of consecutive frames, by the package `trackers`."""
