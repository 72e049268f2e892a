"""Exports of the interface's module of this name; here `Model.export` does their work."""

from __future__ import annotations

from typing import NoReturn

from ultralytics.utils.config.absent import absent


def __getattr__(name: str) -> NoReturn:
    raise absent(__name__, name)
