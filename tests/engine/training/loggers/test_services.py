"""What the loggers of services write: with stand-ins of their packages, and with those that are installed.

With a real package one run is made for all of them, offline, and its curves are read back by the package's own reader,
or from the file that it leaves.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engine.tiny import small_trainer, write_dataset
from ultralytics.cfg import get_cfg
from ultralytics.engine.training.loggers.attach import LOGGER_KINDS
from ultralytics.engine.training.loggers.base import ServiceLogger, measured_values, project_name, read_ids
from ultralytics.engine.training.loggers.mlflow import metric_name
from ultralytics.engine.training.protocols import RunPaths

Points = dict[tuple[str, int], float]


# ------------------------------------------------------------------------------------------------ with a stand-in
class Recorder(ServiceLogger):
    """A logger whose service fails at one epoch."""

    name = "recorder"

    def __init__(self, fail_at: int = 0) -> None:
        super().__init__(SimpleNamespace())  # type: ignore[arg-type]
        self.fail_at, self.log = fail_at, []  # type: ignore[var-annotated]

    def open(self, run: Any, known: str | None) -> str | None:
        self.log.append(("open", known))
        return known or "new-id"

    def write(self, epoch: int, values: Any) -> None:
        if epoch == self.fail_at:
            raise OSError("no route to host")
        self.log.append((epoch, dict(values)))

    def write_pictures(self, paths: Any) -> None:
        self.log.append(("pictures", [p.name for p in paths]))

    def summarise(self, metrics: Any) -> None:
        self.log.append(("final", dict(metrics)))

    def end(self, complete: bool) -> None:
        self.log.append(("end", complete))


def run_of(folder: Path, rows: Any = (), resumed: bool = False) -> Any:
    """As much of a trainer as a logger reads."""
    return SimpleNamespace(
        paths=RunPaths.under(folder),
        progress=SimpleNamespace(rows=list(rows)),
        resume_from={} if resumed else None,
        args=get_cfg(overrides={"project": "runs/a b", "mode": "train"}),
        metrics={"fitness": 0.5},
    )


def row(epoch: int, value: float = 1.0, validation: float = 1.0) -> dict[str, float]:
    return {"epoch": epoch, "train/loss": value, "metrics/mAP50(B)": 0.25, "val/loss": validation, "lr/pg0": 0.1}


def test_each_row_is_passed_on_once_and_the_end_is_reported(tmp_path: Path) -> None:
    (tmp_path / "results.png").touch()
    logger, run = Recorder(), run_of(tmp_path)
    logger.start(run)
    for epoch in (1, 2):
        run.progress.rows.append(row(epoch))
        logger.add_epoch(run)
    logger.add_epoch(run)  # the final validation
    logger.finish(run)
    logger.close(run)
    assert [entry[0] for entry in logger.log] == ["open", 1, 2, "final", "pictures", "end"]
    assert logger.log[-2:] == [("pictures", ["results.png"]), ("end", True)]
    assert read_ids(tmp_path) == {"recorder": "new-id"}


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_continues_where_it_is_known(known: bool, tmp_path: Path) -> None:
    if known:
        Recorder().start(run_of(tmp_path))
    logger, run = Recorder(), run_of(tmp_path, [row(1), row(2)], resumed=True)
    logger.start(run)
    run.progress.rows.append(row(3))
    logger.add_epoch(run)
    logger.close(run)
    assert logger.log[0] == ("open", "new-id" if known else None)
    assert [entry[0] for entry in logger.log[1:]] == ([3, "end"] if known else [1, 2, 3, "end"])
    assert logger.log[-1] == ("end", False)  # it was stopped


def test_a_service_that_fails_stops_its_logger_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger, run = Recorder(fail_at=2), run_of(tmp_path)
    logger.close(run)  # nothing was opened
    logger.start(run)
    for epoch in (1, 2, 3):
        run.progress.rows.append(row(epoch))
        logger.add_epoch(run)
    logger.finish(run)
    logger.close(run)
    out = capsys.readouterr().out
    assert out.count("no route to host") == 1 and "continues" in out
    assert [entry[0] for entry in logger.log] == ["open", 1, "end"]


def test_a_damaged_id_file_is_an_unknown_run(tmp_path: Path) -> None:
    (tmp_path / "loggers.json").write_text("[1")
    assert read_ids(tmp_path) == {}


def test_what_was_not_measured_is_left_out() -> None:
    assert set(dict(measured_values(row(1, validation=0.0)))) == {"train/loss", "lr/pg0"}


def test_names() -> None:
    assert project_name(run_of(Path("x"))) == "runs-a b"
    assert metric_name("metrics/mAP50-95(B)") == "metrics/mAP50-95B"


class Calls:
    """Stands for any package: keeps each call as (dotted name, arguments), and returns itself."""

    def __init__(self, name: str = "", log: list[tuple[str, tuple[Any, ...], dict[str, Any]]] | None = None) -> None:
        self._name, self._log = name, [] if log is None else log

    def __getattr__(self, name: str) -> Any:
        if name in {"Error", "MlflowException"}:
            return ValueError
        return Calls(f"{self._name}.{name}", self._log)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._log.append((self._name.rpartition(".")[2], args, kwargs))
        if self._name.endswith(("Metric", "Param")):
            return args
        return self

    def __str__(self) -> str:
        return "id-1"

    def __fspath__(self) -> str:
        return "folder"


WRITES: dict[str, Callable[[list[Any]], Points]] = {
    "wandb": lambda log: {
        (k, kw["step"]): v for n, a, kw in log if n == "log" and "step" in kw for k, v in a[0].items()
    },
    "swanlab": lambda log: {
        (k, kw["step"]): v for n, a, kw in log if n == "log" and "step" in kw for k, v in a[0].items()
    },
    "comet": lambda log: {
        (k, kw["step"]): v for n, a, kw in log if n == "log_metrics" and "step" in kw for k, v in a[0].items()
    },
    "clearml": lambda log: {(f"{a[0]}/{a[1]}", a[3]): a[2] for n, a, _ in log if n == "report_scalar"},
    "mlflow": lambda log: {
        (m[0], m[3]): m[1] for n, _, kw in log if n == "log_batch" for m in kw.get("metrics", ()) if m[3] > 0
    },
}


@pytest.mark.parametrize("name", WRITES)
def test_what_each_package_is_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("WANDB_PROJECT", "WANDB_DIR", "MLFLOW_TRACKING_URI", "COMET_API_KEY", "SWANLAB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "labels.jpg").touch()
    calls = Calls()
    monkeypatch.setattr("ultralytics.engine.training.loggers.attach.import_module", lambda _: calls)
    logger, run = LOGGER_KINDS[name].make(), run_of(tmp_path)
    logger.start(run)
    for epoch in (1, 2):
        run.progress.rows.append(row(epoch, epoch / 2))
        logger.add_epoch(run)
    logger.finish(run)
    logger.close(run)
    want = {(k, r["epoch"]): v for r in run.progress.rows for k, v in r.items() if k != "epoch"}
    clean = metric_name if name == "mlflow" else str
    assert WRITES[name](calls._log) == {(clean(k), epoch): v for (k, epoch), v in want.items()}
    text = repr(calls._log)
    assert "labels" in text and "final/fitness" in text and "lr0" in text


@pytest.mark.parametrize(("value", "stays_open"), [(None, False), ("false", False), ("True", True)])
def test_an_mlflow_run_stays_open_on_request(
    value: str | None, stays_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///m.db")
    monkeypatch.delenv("MLFLOW_KEEP_RUN_ACTIVE", raising=False)
    if value is not None:
        monkeypatch.setenv("MLFLOW_KEEP_RUN_ACTIVE", value)
    calls = Calls()
    monkeypatch.setattr(Calls, "active_run", lambda self: None, raising=False)
    monkeypatch.setattr("ultralytics.engine.training.loggers.attach.import_module", lambda _: calls)
    logger, run = LOGGER_KINDS["mlflow"].make(), run_of(tmp_path)
    logger.start(run)
    logger.finish(run)
    logger.close(run)
    names = [name for name, _, _ in calls._log]
    assert ("set_terminated" in names, "start_run" in names) == (not stays_open, stays_open)


# ---------------------------------------------------------------------------------------------- with the packages
INSTALLED = [name for name, kind in LOGGER_KINDS.items() if importlib.util.find_spec(kind.package)]


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One short run with every logger that is installed, offline; the trainer, and the folder of ClearML."""
    if INSTALLED in ([], ["tensorboard"]):
        pytest.skip("no package of a service is installed")
    folder = tmp_path_factory.mktemp("real")
    offline = {
        **{"WANDB_MODE": "offline", "WANDB_SILENT": "true", "COMET_MODE": "offline", "SWANLAB_MODE": "local"},
        **{"CLEARML_OFFLINE_MODE": "1", "CLEARML_CACHE_DIR": str(folder / "clearml")},
        **{"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"},
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in offline.items():
            patch.setenv(key, value)
        patch.delenv("COMET_API_KEY", raising=False)
        patch.chdir(folder)
        trainer = small_trainer(write_dataset(folder / "set"), folder, loggers=INSTALLED)
        trainer.train()
        yield trainer


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed")


def rows_of(trainer: Any) -> Points:
    """Points that results.csv stands for."""
    with open(trainer.csv) as f:
        rows = list(csv.DictReader(f))
    return {(k, int(r["epoch"])): float(v) for r in rows for k, v in r.items() if k != "epoch"}


def check(read: Points, trainer: Any, clean: Callable[[str], str] = str) -> None:
    want = {(clean(k), epoch): pytest.approx(v, rel=1e-4) for (k, epoch), v in rows_of(trainer).items()}
    assert {k: v for k, v in read.items() if k in want} == want


def journal(path: Path, skip: int) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind `skip` bytes of a header of its own."""
    data, at, parts = path.read_bytes(), skip, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # a whole record, or its last part
            yield parts
            parts = b""


@needs("wandb")
def test_weights_and_biases_offline(real_run: Any) -> None:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[import-not-found]

    (file,) = real_run.save_dir.glob("wandb/offline-run-*/run-*.wandb")
    read: Points = {}
    for data in journal(file, skip=7):
        items = Record.FromString(data).history.item
        values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
        read |= {(k, values["_step"]): v for k, v in values.items() if isinstance(v, (int, float))}
    check(read, real_run)


@needs("mlflow")
def test_mlflow_in_a_local_store(real_run: Any) -> None:
    import mlflow  # type: ignore[import-not-found]

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{real_run.save_dir.parent / 'mlflow.db'}")
    run = client.get_run(read_ids(real_run.save_dir)["mlflow"])
    names = [name for name in run.data.metrics if not name.startswith("final/")]
    history = {(n, m.step): m.value for n in names for m in client.get_metric_history(run.info.run_id, n)}
    check(history, real_run, metric_name)
    assert run.info.status == "FINISHED" and run.data.params["imgsz"] == "64"


@needs("swanlab")
def test_swanlab_in_local_files(real_run: Any) -> None:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record  # type: ignore[import-not-found]
    from swanlab.sdk.internal.core_python.store import DataStoreReader  # type: ignore[import-not-found]

    (file,) = real_run.save_dir.glob("swanlab/run-*/run-*.swanlab")
    reader, read = DataStoreReader(), {}
    reader.open(str(file))
    for data in reader:
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "scalar":
            read[record.scalar.key, record.scalar.step] = record.scalar.value.number
    check(read, real_run)


@needs("comet")
def test_comet_offline(real_run: Any) -> None:
    (file,) = real_run.save_dir.glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    metrics = [m["payload"]["metric"] for m in messages if m["type"] == "metric_msg"]
    check({(m["metricName"], m["step"]): m["metricValue"] for m in metrics}, real_run)


@needs("clearml")
def test_clearml_offline(real_run: Any) -> None:
    (file,) = (real_run.save_dir.parent / "clearml").rglob("offline-*.zip")
    with zipfile.ZipFile(file) as archive:
        events = [e for line in archive.read("metrics.jsonl").splitlines() for e in json.loads(line)]
    scalars = [e for e in events if e["type"] == "training_stats_scalar"]
    read = {(f"{e['metric']}/{e['variant']}", e["iter"]): e["value"] for e in scalars}
    check(read, real_run, lambda name: name if "/" in name else f"{name}/{name}")
