"""Processes of their own for tests, started from one that has imported torch already."""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing.context import BaseContext

IMPORTED = ["torch", "torchvision", "ultralytics.engine.trainer", "ultralytics.models.rtdetr.train"]


@cache
def process_context() -> BaseContext:
    """The context to start processes with: forks of a server without threads, or new interpreters (Windows).

    Importing torch takes a new interpreter seconds; a fork of this process would inherit what other tests left in it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context
