"""Over 200 hostile files: none runs anything, none crashes the reader, each is refused or loaded as it should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.tiny import TINY
from tests.models.dfine.networks import DFINE
from tests.models.yolo.networks import V8
from tests.nn.checkpoint.hostile import CANARY, calls, pickled, table, zipped
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.dfine import DFINEDetectionModel
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.yolo import YOLODetectionModel

ROOT = Path(__file__).resolve().parents[3]


NETWORKS = {
    "rtdetr": lambda: RTDETRDetectionModel(TINY, verbose=False),
    "yolo": lambda: YOLODetectionModel(V8, verbose=False),
    "dfine": lambda: DFINEDetectionModel(DFINE, verbose=False),
}


@pytest.fixture(
    scope="module", params=["rtdetr", *(pytest.param(n, marks=pytest.mark.slow) for n in ("yolo", "dfine"))]
)
def report(request, tmp_path_factory):
    """What a process of its own made of all files of the table, which derive from a file of one family."""
    folder = tmp_path_factory.mktemp("hostile")
    torch.manual_seed(0)
    good = save_checkpoint(folder / "good.pth", {"model": pack_model(NETWORKS[request.param]())})
    for number, (label, content) in enumerate(table(good.read_bytes(), str(folder / CANARY))):
        suffix = ".safetensors" if label.startswith("safetensors") else ".pt"
        (folder / f"{number:03d} {label.replace('/', '_')}{suffix}").write_bytes(content)
    before = sorted(os.listdir(folder))
    run = subprocess.run(
        [sys.executable, "-m", "tests.nn.checkpoint.hostile_reader", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert sorted(os.listdir(folder)) == before
    return json.loads(run.stdout.splitlines()[-1])


def test_there_are_enough_files(report):
    assert len(report["outcomes"]) >= 200


def test_nothing_ran(report):
    assert report["events"] == []


def test_memory_stays_under_a_gigabyte(report):
    assert report["peak_mb"] < 1000


def test_each_is_refused_with_few_lines_that_name_the_file(report):
    refused = {k: v for k, v in report["outcomes"].items() if v.startswith("refused")}
    assert len(refused) > 200
    for name, text in refused.items():
        assert len(text.splitlines()) <= 3 and name in text, text
        assert all(len(line) < 400 for line in text.splitlines()), text


def test_what_loads_is_whole(report):
    """A damaged byte that matters never goes unseen: what loads has the very weights of the good file."""
    loaded = {k: v for k, v in report["outcomes"].items() if v.startswith("loaded")}
    assert loaded and set(loaded.values()) == {f"loaded {report['good']}"}
    assert not [
        k for k in loaded if not k[4:].startswith(("flipped", "doubled", "directory elsewhere", "field stride"))
    ]


def test_the_canary_works(tmp_path):
    """Python's own unpickler, given one of these files, does run it; so the table tests something."""
    canary = tmp_path / CANARY
    path = tmp_path / "x.pkl"
    path.write_bytes(pickled(calls(str(canary))["builtins.exec"]))
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=True)
    assert canary.exists()
    assert zipped(b"") != b""
