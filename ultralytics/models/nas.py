"""A part of the interface that is not here: each of its names says what to use instead."""

from __future__ import annotations

from typing import NoReturn

from ultralytics.utils.config.absent import absent


def __getattr__(name: str) -> NoReturn:
    raise absent(__name__, name)
