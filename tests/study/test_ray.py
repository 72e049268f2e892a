"""A study on a real Ray cluster of two nodes on this machine, one of which is killed on the way."""

from __future__ import annotations

import importlib.util
import threading
import time
from pathlib import Path

import pytest

from tests.engine.tiny import write_dataset
from tests.study.runs import PLAN, write_plan
from ultralytics.study.run_study import Study, ablate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
]


def test_a_study_ends_whole_though_a_node_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's workers give way to everything else otherwise
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    plan = write_plan(
        tmp_path, write_dataset(tmp_path / "set"), PLAN.replace("epochs: 1", "epochs: 4").replace("[0, 1]", "[0]")
    )
    ended: list[Study] = []
    study = threading.Thread(target=lambda: ended.append(ablate(plan, project=tmp_path / "studies", engine="ray")))
    try:
        study.start()
        runs = tmp_path / "studies" / "small" / "runs"
        wait_for(lambda: len(list(runs.glob("*/*/log.txt"))) >= 2 and any(runs.glob("*/*/results.csv")))
        cluster.remove_node(nodes[0], allow_graceful=False)
        study.join(300)
    finally:
        ray.shutdown()
        cluster.shutdown()
    (result,) = ended
    assert not result.findings.failures
    seeds = {arm: sorted(runs) for arm, runs in result.findings.outcomes.items()}
    assert seeds == {"base": [0], "focal": [0], "shsa": [0]}
    epochs = [len(file.read_text().splitlines()) - 1 for file in runs.glob("*/*/results.csv")]
    assert epochs == [4] * 3  # the run that lost its node has resumed, or begun again


def wait_for(ready: object, seconds: float = 240.0) -> None:
    """Wait until a call is true."""
    assert callable(ready)
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "nothing has happened"
        time.sleep(0.2)
