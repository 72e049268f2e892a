"""The mode `track` of a model: prediction in frames, whose boxes get ids, and the scores of MOT sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.evaluate import TrackScores, evaluate_tracks, mot_sequences
from ultralytics.engine.tracking.settings import read_tracker
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER

TRACK_CONF = 0.1
"""Score above which boxes go to the tracker: low ones continue tracks."""


class TrackMode:
    """The tracking methods of a model."""

    _tracks: Tracks | None = None  # of the last call, for `persist`

    def _args(self, mode: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _class(self, role: str) -> type[Any]:
        raise NotImplementedError

    def _start(
        self, cls: type[Any], args: Mapping[str, Any], source: object, tracks: Tracks | None = None
    ) -> Iterator[Results]:
        raise NotImplementedError

    def track(
        self, source: object = None, stream: bool = False, persist: bool = False, **kwargs: Any
    ) -> list[Results] | Iterator[Results]:
        """Detect and follow objects in a video, stream, or consecutive images; boxes have `id`, results `trails`.

        `tracker` is a YAML: bytetrack.yaml (default), botsort.yaml, ocsort.yaml, sort.yaml, or a file. Each call starts
        with new tracks, unless `persist`: then consecutive calls, with a frame each, continue those of the last one.
        Defaults: conf 0.1, batch 1, nothing saved. Ids do not depend on the batch size. `save_txt` appends ids to the
        label rows, `save_mot` writes MOT text.

        Raises:
            MissingPackageError: the package `trackers` is not installed.
            ConfigError: the tracker YAML is wrong.
        """
        args = self._args("track", {"batch": 1, "save": False, "conf": TRACK_CONF, **kwargs})
        args.pop("data", None)
        settings = read_tracker(str(args.get("tracker") or "bytetrack.yaml"))
        kept = self._tracks if persist else None
        tracks = self._tracks = kept if kept is not None and kept.settings == settings else Tracks(settings)
        found = self._start(self._class("predictor"), args, source, tracks)
        return found if stream else ResultList(found)

    def track_mot(self, data: str | Path, **kwargs: Any) -> TrackScores:
        """Track in each sequence of a folder in MOT form and compare with its `gt/gt.txt`: HOTA, MOTA, IDF1.

        `data` holds `<sequence>/img1/*.jpg` and `<sequence>/gt/gt.txt`, or is one such sequence. The tracks are written
        into the run folder, the scores are logged.

        Raises:
            ConfigError: there is no sequence.
        """
        sequences = mot_sequences(data)
        folder = None
        for sequence in sequences:
            given = {"save": False, **kwargs, "save_mot": True, "stream": True, "source": str(sequence / "img1")}
            if folder is not None:
                given |= {"save_dir": str(folder)}
            for result in self.track(**given):
                folder = folder or result.save_dir
        if folder is None:
            raise ConfigError(f"data={data}: no image in {sequences[0] / 'img1'}")
        scores = evaluate_tracks(sequences, Path(folder) / "tracks")
        for line in scores.lines():
            LOGGER.info(line)
        return scores


def start_stream(predictor: Any, source: object, tracks: Tracks | None) -> Iterator[Results]:
    """Return the results of a predictor one after the other, with ids where there are `tracks`."""
    if tracks is None:
        plain: Iterator[Results] = predictor(source, stream=True)
        return plain
    predictor.stream = True
    tracked: Iterator[Results] = predictor.stream_inference(source, tracks=tracks)
    return tracked
