"""A part of the interface that is not here: each of its names says what to use instead."""

from __future__ import annotations

from ultralytics.utils.config.absent import absent_names

__getattr__ = absent_names(__name__)
