"""The tracks of a source: one tracker for each sequence of frames, ids for its boxes, and the paths of the objects.

Shapes: n boxes of a frame. Rows of tracked boxes are xyxy in px, id, score, class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.settings import TRACK_EXTRA, TrackerSettings
from ultralytics.utils.checks import require
from ultralytics.utils.torch_tools.arrays import Float64Array, IntArray, Pixels

TRAIL = 30
"""Frames of its path that an object is drawn with."""


Point: TypeAlias = "tuple[int, int]"


class Tracker(Protocol):
    """A tracker of the package `trackers`: from `supervision.Detections` to those with their `tracker_id`."""

    def update(self, detections: object, frame: Pixels | None = None) -> Any: ...


class FrameSequence:
    """The tracker of one sequence of frames, and what is known of its objects. Objects long unseen are forgotten."""

    def __init__(self, tracker: Tracker, memory: int) -> None:
        self.tracker = tracker
        self._memory = memory  # frames after which an unseen object cannot come back
        self._frames = 0
        self._next = 1
        self._numbers: dict[int, int] = {}  # id of the tracker to our id, which counts from 1
        self._trails: dict[int, deque[Point]] = {}
        self._seen: dict[int, int] = {}

    def follow(self, found: Sequence[int], centres: Sequence[Point]) -> tuple[list[int], dict[int, list[Point]]]:
        """Return the ids of the objects of a frame, and the path of each by id, from the tracker's ids and centres."""
        self._frames += 1
        for i, centre in zip(found, centres, strict=True):
            if i not in self._numbers:
                self._numbers[i], self._next = self._next, self._next + 1
            self._trails.setdefault(i, deque(maxlen=TRAIL)).append(centre)
            self._seen[i] = self._frames
        for i in [i for i, last in self._seen.items() if self._frames - last > self._memory]:
            del self._numbers[i], self._trails[i], self._seen[i]
        ids = [self._numbers[i] for i in found]
        return ids, {self._numbers[i]: list(self._trails[i]) for i in found}


class Tracks:
    """Gives the boxes of each frame their ids; frames come in their order, whatever the batch size.

    A sequence is a video, one of several streams, or all images of a source together; a new one starts its own tracker,
    whose ids begin at 1 again. Boxes without an id are left out.

    Raises MissingPackageError where the package `trackers` is not installed.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self.settings = settings
        self._supervision = require("supervision", "tracking", TRACK_EXTRA)
        settings.build()  # an option that the tracker refuses is an error before the first frame
        self._sequences: dict[str, FrameSequence] = {}

    def update(self, results: Sequence[Results], keys: Sequence[str]) -> list[Results]:
        """Return the results of consecutive frames with the boxes that have an id; `keys` name their sequences.

        Sequences that the batch does not continue have ended.
        """
        self._sequences = {key: kept for key, kept in self._sequences.items() if key in keys}
        return [self._update(result, key) for result, key in zip(results, keys, strict=True)]

    def _update(self, result: Results, key: str) -> Results:
        """Return one frame with its ids and the paths of its objects."""
        if key not in self._sequences:
            memory = max(TRAIL, int(dict(self.settings.options).get("lost_track_buffer", 0)) + 1)
            self._sequences[key] = FrameSequence(self.settings.build(), memory)
        sequence = self._sequences[key]
        rows = np.zeros((0, 6)) if result.boxes is None else np.asarray(result.boxes.numpy().data, np.float64)
        found = self._ids(sequence.tracker, rows, result)
        rows, found = rows[found >= 0], found[found >= 0]
        centres = [(round((x1 + x2) / 2), round((y1 + y2) / 2)) for x1, y1, x2, y2 in rows[:, :4].tolist()]
        ids, trails = sequence.follow(found.tolist(), centres)
        data = np.concatenate([rows[:, :4], np.array(ids, np.float64).reshape(-1, 1), rows[:, 4:6]], 1)  # (n, 7)
        tracked = Results(result.orig_img, result.path, result.names, torch.from_numpy(data).float())
        tracked.speed, tracked.save_dir, tracked.trails = result.speed, result.save_dir, trails
        return tracked

    def _ids(self, tracker: Tracker, rows: Float64Array, result: Results) -> IntArray:
        """Return the tracker's id of each row (n, 6) xyxy, score, class; -1 for a row without."""
        ids = np.full(len(rows), -1, np.int64)
        used = np.flatnonzero(rows[:, 4] >= self.settings.low)
        boxes = self._supervision.Detections(
            xyxy=rows[used, :4].astype(np.float32),
            confidence=rows[used, 4].astype(np.float32),
            class_id=rows[used, 5].astype(int),
            data={"row": used},
        )
        moving = self.settings.kind == "botsort"  # the others take no frame, and warn of one
        out = tracker.update(boxes, result.orig_img) if moving else tracker.update(boxes)
        if len(out):
            ids[np.asarray(out.data["row"], np.int64)] = np.asarray(out.tracker_id, np.int64)
        return ids
