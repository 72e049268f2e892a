"""Curves of a training run for TensorBoard.

The event file lies in the run folder, beside results.csv, and holds the same columns: tensorboard --logdir runs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ultralytics.cfg import Args
from ultralytics.engine.training.loggers.base import RowLogger, measured_values
from ultralytics.engine.training.protocols import HasRows
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.tables import markdown

_LOGGED_EVENTS = "events.out.tfevents.*"


class TensorBoard(RowLogger):
    """Writes each row of results.csv as scalars at its epoch (from 1), and the arguments once as text at step 0.

    Where a run resumes, or returns to an earlier state, TensorBoard drops the epochs that are written again
    (`purge_step`), so that no curve has two points at one epoch.
    """

    name = "tensorboard"

    def __init__(self, make_writer: Callable[..., Any]) -> None:
        super().__init__()
        self.make_writer = make_writer
        self.writer: Any = None

    def start(self, run: HasRows) -> None:
        """Open the event file; what an older one in the folder does not hold for certain is written to it."""
        rows = run.progress.rows
        resumes = bool(rows) and run.resume_from is not None and any(run.paths.save_dir.glob(_LOGGED_EVENTS))
        self._open(run, int(rows[-1]["epoch"]) if resumes else 0)
        LOGGER.info(f"{colorstr('tensorboard:')} tensorboard --logdir {run.paths.save_dir}")
        if not resumes:
            self.writer.add_text("arguments", _table(run.args), 0)
        for row in rows[-1:] if resumes else rows:
            self._write(row)
        self.writer.flush()

    def add_epoch(self, run: HasRows) -> None:
        """Write the newest row of results.csv; the final validation brings none."""
        row = run.progress.rows[-1]
        if row is self.row:
            return
        if row["epoch"] <= self.row.get("epoch", 0):  # the run went back
            self.writer.close()
            self._open(run, int(row["epoch"]))
        self._write(row)
        self.writer.flush()

    def close(self, run: object) -> None:
        """Close the event file; a disk that is full has been named by who wrote something that matters."""
        try:
            if self.writer is not None:
                self.writer.close()
        except OSError as e:
            LOGGER.warning(f"tensorboard: the event file is not whole: {e.strerror}")

    def _open(self, run: HasRows, step: int) -> None:
        """Begin an event file in the run folder that replaces what is there from `step` on."""
        self.writer = self.make_writer(log_dir=str(run.paths.save_dir), purge_step=step)

    def _write(self, row: Mapping[str, float]) -> None:
        """Write one row of results.csv."""
        for name, value in measured_values(row):
            self.writer.add_scalar(name, value, int(row["epoch"]))
        self.row = row


def _table(args: Args) -> str:
    """Return the arguments of a run as a Markdown table."""
    rows = [("argument", "value"), *((name, str(value)) for name, value in sorted(args))]
    return "\n".join(markdown(rows, left=(0, 1)))
