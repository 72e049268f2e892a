"""Scores of tracks against the ground truth of MOT sequences, by the evaluation of the package `trackers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.engine.tracking.settings import TRACK_EXTRA
from ultralytics.utils.checks import require
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER

_FAMILIES = {"HOTA": "HOTA", "DetA": "HOTA", "AssA": "HOTA", "MOTA": "CLEAR", "IDF1": "Identity", "IDSW": "CLEAR"}
COMBINED = "COMBINED"
METRICS = sorted(set(_FAMILIES.values()))


@dataclass(frozen=True)
class TrackScores:
    """The scores of each sequence by name, and of all together as `COMBINED`; ratios in 0..1, `IDSW` counts."""

    sequences: dict[str, dict[str, float]]

    @property
    def combined(self) -> dict[str, float]:
        """The scores of all sequences together."""
        return self.sequences[COMBINED]

    def lines(self) -> list[str]:
        """Return a table, one line for each sequence."""
        head = f"{'sequence':<24}" + "".join(f"{name:>8}" for name in _FAMILIES)
        rows = [
            f"{name:<24}" + "".join(f"{v:>8.0f}" if k == "IDSW" else f"{v:>8.3f}" for k, v in row.items())
            for name, row in self.sequences.items()
        ]
        return [head, *rows]


def mot_sequences(data: str | Path) -> list[Path]:
    """Return the folders of a MOT set that have `img1` and `gt/gt.txt`, in the order of their names.

    A folder that has them itself is one sequence; those below it are left out, with a warning.

    Raises:
        ConfigError: there is none.
    """
    root = Path(data)
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir())] if root.is_dir() else []
    found = [p for p in folders if (p / "img1").is_dir() and (p / "gt" / "gt.txt").is_file()]
    if found[:1] == [root] and len(found) > 1:
        below = ", ".join(p.name for p in found[1:])
        LOGGER.warning(f"data={data} is a sequence itself; those below it are left out: {below}. Give each by itself")
        return [root]
    if not found:
        raise ConfigError(f"data={data}: no MOT sequence there", "a sequence is a folder with img1/ and gt/gt.txt")
    return found


def evaluate_tracks(sequences: Sequence[Path], tracks: Path) -> TrackScores:
    """Compare `tracks/<sequence>.txt` with the ground truth of each sequence.

    Raises:
        ConfigError: a sequence without any track, which has no scores.
    """
    evaluation: Any = require("trackers.eval", "the evaluation of tracks", TRACK_EXTRA)
    files = {sequence.resolve().name: tracks / f"{sequence.resolve().name}.txt" for sequence in sequences}
    for sequence, file in zip(sequences, files.values(), strict=True):
        if not file.is_file() or not file.stat().st_size:
            raise ConfigError(
                f"{sequence}: no object was tracked in it", "lower conf=, or new_track_thresh of tracker="
            )
    if len(files) == 1:  # beside it there may be others
        ((name, file),) = files.items()
        only = _scores(evaluation.evaluate_mot_sequence(sequences[0] / "gt" / "gt.txt", file, metrics=METRICS))
        return TrackScores({name: only, COMBINED: dict(only)})
    roots = {sequence.parent for sequence in sequences}
    benchmark = evaluation.evaluate_mot_sequences(roots.pop(), tracks, metrics=METRICS)
    scores = {name: _scores(benchmark.sequences[name]) for name in files}
    return TrackScores({**scores, COMBINED: _scores(benchmark.aggregate)})


def _scores(found: object) -> dict[str, float]:
    """Return the scores of one result of the package."""
    return {name: float(getattr(getattr(found, family), name)) for name, family in _FAMILIES.items()}
