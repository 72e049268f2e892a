"""What the loggers share: each row of results.csv is passed on once, and a service knows a resumed run again.

A logger is attached to the callback events of a run: it opens before the first epoch, gets one row an epoch, and
closes when the run ends in whatever way. What fails in a service after the start is reported once and stops the logger,
not the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from ultralytics.engine.training.protocols import HasRows
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.files import atomic_write

IDS_FILE = "loggers.json"
"""File of the run folder with the names that services gave to the run."""

FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class RowLogger:
    """Passes each row of results.csv on, at its epoch (from 1); what a skipped validation leaves empty is left out."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.row: Mapping[str, float] = {}

    def attach(self, run: HasRows) -> None:
        """Listen to the events of a run."""
        run.add_callback("on_pretrain_routine_end", self.start)
        run.add_callback("on_fit_epoch_end", self.add_epoch)
        run.add_callback("on_train_end", self.finish)
        run.add_callback("teardown", self.close)

    def start(self, run: HasRows) -> None:
        """Open the log of a run, and write its arguments and the rows that it has already."""
        raise NotImplementedError

    def add_epoch(self, run: HasRows) -> None:
        """Write the newest row; the final validation brings none."""
        raise NotImplementedError

    def finish(self, run: HasRows) -> None:
        """Write what the end of a complete run brings."""

    def close(self, run: HasRows) -> None:
        """Close the log, of a run that is complete or was stopped."""
        raise NotImplementedError


class ServiceLogger(RowLogger):
    """A logger whose service has runs of its own, known by an id, which the run folder keeps for a resumed run.

    Subclasses fill `open`, `write`, `write_pictures`, `summarise` and `end`, and name the errors of their package.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, module: ModuleType) -> None:
        super().__init__()
        self.module: Any = module
        self.finished = self.broken = self.opened = False

    def open(self, run: HasRows, known: str | None) -> str | None:
        """Open the run in the service; `known` is its id of an earlier process. Returns its id, None for none."""
        raise NotImplementedError

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the figures of an epoch."""
        raise NotImplementedError

    def write_pictures(self, paths: Sequence[Path]) -> None:
        """Write the figures of the run."""

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the weights that the run ends with."""

    def end(self, complete: bool) -> None:
        """Close the run in the service."""
        raise NotImplementedError

    def start(self, run: HasRows) -> None:
        """Open the run; one that resumes continues where the service knows it, else all its rows are written."""
        ids = read_ids(run.paths.save_dir)
        known = ids.get(self.name) if run.resume_from is not None else None
        new = self.open(run, known)
        self.opened = True
        if new is not None and new != known:
            write_ids(run.paths.save_dir, {**ids, self.name: new})
        rows = run.progress.rows
        for row in [] if known is not None else rows:
            self._write(row)
        self.row = rows[-1] if rows else {}

    def add_epoch(self, run: HasRows) -> None:
        """Write the newest row; the final validation brings none."""
        row = run.progress.rows[-1]
        if row is not self.row:
            self._write(row)

    def finish(self, run: HasRows) -> None:
        """Write the final metrics and the pictures of the run folder."""
        self.finished = True
        try:
            if not self.broken:
                self.summarise(run.metrics)
                self.write_pictures(pictures(run.paths.save_dir))
        except self.errors as e:
            self._stop(e)

    def close(self, run: HasRows) -> None:
        """Close the run; one that did not end by itself counts as failed."""
        if not self.opened:
            return
        try:
            self.end(self.finished)
        except self.errors as e:
            self._stop(e)

    def _write(self, row: Mapping[str, float]) -> None:
        self.row = row
        try:
            if not self.broken:
                self.write(int(row["epoch"]), dict(measured_values(row)))
        except self.errors as e:
            self._stop(e)

    def _stop(self, error: Exception) -> None:
        self.broken = True
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        LOGGER.warning(f"{self.name}: {reason}\n{self.name} gets nothing further of this run, which continues")

    def report(self, where: str) -> None:
        """Log where the run can be seen."""
        LOGGER.info(f"{colorstr(f'{self.name}:')} {where}")


def measured_values(row: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Give name and value of a row's figures; those of a skipped validation are left out."""
    validated = any(value for name, value in row.items() if name.startswith("val/"))
    for name, value in row.items():
        if name != "epoch" and (validated or not name.startswith(("val/", "metrics/"))):
            yield name, float(value)


def arguments(run: HasRows) -> dict[str, Any]:
    """Return the arguments of a run, by name."""
    return dict(sorted(run.args))


def project_name(run: HasRows) -> str:
    """Return the name under which a service groups the run: the argument `project`, its folders joined by hyphens."""
    return re.sub(r"[\\/:]+", "-", str(run.args.get("project") or "ultralytics")).strip("-.") or "ultralytics"


def run_name(run: HasRows) -> str:
    """Return the name of a run: that of its folder."""
    return run.paths.save_dir.name


def pictures(folder: Path) -> list[Path]:
    """Return the figures that a run wrote."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FIGURE_SUFFIXES)


def read_ids(folder: Path) -> dict[str, str]:
    """Return the ids that services gave to the run of a folder."""
    try:
        data = json.loads((folder / IDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}


def write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Keep the ids that services gave to the run of a folder."""
    with atomic_write(folder / IDS_FILE) as f:
        json.dump(dict(ids), f, indent=2, sort_keys=True)
        f.write("\n")
