"""Files that version 0.1.0 wrote, before its modules moved: they load, run and resume.

`tests/golden/earlier` holds the best weights of three epochs, their exported forms, the state after the first of the
three epochs, and the table of the whole run.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny import write_dataset
from ultralytics import RTDETR
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.checkpoint import read_checkpoint, save_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "earlier"
IMAGE = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)


def expected() -> torch.Tensor:
    with np.load(FOLDER / "expected.npz") as arrays:
        return torch.from_numpy(arrays["rows"])


@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
def test_weights_give_the_same_rows(name: str) -> None:
    network: Any = RTDETR(str(FOLDER / name)).model
    with torch.no_grad():
        rows = network.eval()(IMAGE)[0]
    torch.testing.assert_close(rows, expected(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["best.torchscript", "best.onnx"])
def test_exported_files_run(name: str) -> None:
    rows = torch.as_tensor(AutoBackend(str(FOLDER / name))(IMAGE))
    torch.testing.assert_close(rows.sort(1).values, expected().sort(1).values, atol=1e-4, rtol=1e-3)


def test_a_run_that_was_cut_off_resumes(tmp_path: Path) -> None:
    """The two epochs that were left give the losses of the whole run."""
    data = write_dataset(tmp_path / "data")
    state = read_checkpoint(FOLDER / "last.pt")
    state["train_args"] |= {"data": str(data), "project": str(tmp_path), "save_dir": str(tmp_path / "cut")}
    last = save_checkpoint(tmp_path / "cut" / "weights" / "last.pt", state)
    RTDETR(str(last)).train(resume=True)
    rows, whole = (
        list(csv.DictReader(path.open())) for path in (tmp_path / "cut" / "results.csv", FOLDER / "results.csv")
    )
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row, other in zip(rows, whole, strict=True):
        for key in ("train/giou_loss", "train/cls_loss", "train/l1_loss", "val/cls_loss", "lr/pg0"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=2e-4), (row["epoch"], key)
