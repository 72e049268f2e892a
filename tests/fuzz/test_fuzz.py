"""A bounded share of the fuzzing: each input is accepted, or refused with an error of the package.

Long runs: `python -m tests.fuzz --kind all --count 10000`.
"""

from __future__ import annotations

import sys
import time

import pytest

from tests.fuzz import kinds, sandbox
from tests.fuzz.kinds import KINDS
from tests.fuzz.sandbox import run_kind
from ultralytics.utils.errors import ConfigError

COUNTS = {
    "weights": 6, "yolo_weights": 4, "safetensors": 6, "model_yaml": 5, "data_yaml": 40, "labels": 150, "images": 100,
    "coco": 30, "voc": 20, "replays": 3, "resumes": 3, "archives": 40, "arguments": 100, "settings": 100, "caches": 60,
}  # fmt: skip
"""Inputs of each kind: together some ten seconds."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are those of Linux")


@pytest.mark.parametrize("name", KINDS)
def test_no_input_ends_in_a_traceback(name: str) -> None:
    if name == "safetensors":
        pytest.importorskip("safetensors")
    tally = run_kind(name, COUNTS[name], seed=7)
    assert tally.failures == {} and tally.total == COUNTS[name]


class Faulty:
    """Inputs 0 to 5: fine, refused, a bug, without end, more memory than there is, the end of the process."""

    def __init__(self, folder: object) -> None:
        self.number = -1

    def once(self, rng: object) -> object:
        self.number += 1
        if self.number == 1:
            raise ConfigError("no")
        if self.number == 2:
            return 1 / 0
        while self.number == 3:
            time.sleep(0.01)
        if self.number == 4:
            return bytes(3 << 30)
        return sys.exit(3) if self.number == 5 else None


def test_the_sandbox_sees_each_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", {"faulty": Faulty})
    monkeypatch.setattr(sandbox, "LIMIT_S", 1)
    tally = run_kind("faulty", 6, seed=0)
    signatures = {numbers[0]: text for text, numbers in tally.failures.items()}
    assert (tally.accepted, tally.refused, sorted(signatures)) == (1, 1, [2, 3, 4, 5])
    assert signatures[2].startswith("ZeroDivisionError") and signatures[3] == "over 1 s"
    assert signatures[4].startswith("MemoryError") and signatures[5].startswith("SystemExit")
