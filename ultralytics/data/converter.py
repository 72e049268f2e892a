"""Conversions of the interface's module of this name; here `ultralytics.convert` does their work."""

from __future__ import annotations

from ultralytics.utils.config.absent import absent_names

__getattr__ = absent_names(__name__)
