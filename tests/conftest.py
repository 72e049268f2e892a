"""What holds for all tests: one thread, and which tests are `core`.

Networks here are tiny: more threads than one cost more than they save, and sums of several are rounded otherwise. The
variable counts for torch, which is imported later, and for the processes that tests start.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).resolve().parent
CORE = (
    *("contract", "cfg", "nn/build", "models/utils", "engine/test_round_trip.py"),
    *(f"nn/modules/test_{name}.py" for name in ("attention", "block", "conv", "head", "matmul", "shsa", "transformer")),
    *(f"data/{name}" for name in ("augment/test_geometric.py", "labels/test_parse.py", "test_dataset.py")),
    *(f"utils/test_{name}.py" for name in ("instance", "loss", "nms", "ops", "tal")),
    *("utils/metrics/test_ap.py", "utils/config"),
)
"""Files and folders of the inner loop, `pytest -m core`: a test of every layer of the package."""
NOT_CORE = ("contract/test_silent_import.py", "contract/test_extension_points.py", "nn/build/test_user_blocks.py")
"""Files of these folders that start processes, or train."""


def is_core(path: Path) -> bool:
    """Return whether the tests of a file belong to the inner loop."""
    place = path.relative_to(TESTS) if path.is_relative_to(TESTS) else Path()
    return any(place.is_relative_to(p) for p in CORE) and not any(place.is_relative_to(p) for p in NOT_CORE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the inner loop."""
    for item in items:
        if is_core(item.path) and item.get_closest_marker("slow") is None:
            item.add_marker("core")


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of the searches of the garbage collector, which last long otherwise."""
    gc.collect()
    gc.freeze()
