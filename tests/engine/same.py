"""When two training runs, or two states of one, count as the same: bit for bit."""

from __future__ import annotations

import csv
from typing import Any

import torch

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.checkpoint.format import read_checkpoint


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Demand two nested structures to be the same, tensors bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for k in a:
            assert_equal(a[k], b[k], f"{where}.{k}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def rows(trainer: BaseTrainer) -> list[dict[str, str]]:
    """Rows of results.csv without the time."""
    with open(trainer.csv, encoding="utf-8") as f:
        return [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(f)]


def assert_same_run(a: BaseTrainer, b: BaseTrainer) -> None:
    """Demand equal weights, average, optimizer, early stopping and results.csv, bit for bit."""
    one, two = read_checkpoint(a.last), read_checkpoint(b.last)
    for key in ("epoch", "best_fitness", "updates", "optimizer", "scheduler", "stopper"):
        assert_equal(one[key], two[key], key)
    for key in ("model", "ema"):
        assert_equal(one[key]["state_dict"], two[key]["state_dict"], key)
    assert rows(a) == rows(b)
