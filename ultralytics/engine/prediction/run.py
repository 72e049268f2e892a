"""One pass of a predictor over a source: what it started with, what it counts, and where its files go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.cfg import Args, get_save_dir
from ultralytics.data.utils import VID_FORMATS, suffix_of
from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.engine.writers import ResultWriter
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.ops import Profile

STAGES = ("preprocess", "inference", "postprocess")


@dataclass
class PredictRun:
    """One pass over a source: what it started with, and what it counts."""

    args: Args
    imgsz: tuple[int, int]
    dataset: Any
    writer: ResultWriter
    timers: tuple[Profile, ...]
    tracks: Tracks | None = None
    track_timer: Profile = field(default_factory=Profile)
    seen: int = 0
    bar: TQDM[Any] | None = None
    video_path: str = ""

    def tracked(self, results: Sequence[Results], paths: Sequence[str]) -> list[Results]:
        """Return the results with ids, where the pass tracks; a video or stream, or all images, are a sequence."""
        if self.tracks is None:
            return list(results)
        names = [paths[i] if i < len(paths) else "" for i in range(len(results))]
        with self.track_timer:
            return self.tracks.update(results, [p if self._frame_rate(p) is not None else "" for p in names])

    def line(self, result: Results, path: str, info: str) -> str:
        """Return the log line of a result; empty where a video's bar stands for it."""
        if not self.args.verbose or self._advance(path):
            return ""
        ms = sum(v for v in result.speed.values() if v)
        return f"{info}{self.imgsz[0]}x{self.imgsz[1]} {result.verbose()}{ms:.1f}ms"

    def write(self, result: Results, path: str, save: Callable[[Path, int], None]) -> None:
        """Write the files that were asked for; `save` writes the picture."""
        if self.writer.active:
            result.save_dir = str(self.writer.root)
            self.writer.write(result, path, fps=self._frame_rate(path), save=save)

    def _advance(self, path: str) -> bool:
        """Move the bar of a video file that is being annotated; False for anything else, which has lines instead."""
        total = self.dataset.lengths.get(path) if self.args.save else None
        if path != self.video_path:
            self.close_bar()
        if total is None:
            return False
        if self.bar is None:
            self.video_path, self.bar = path, TQDM(total=total or None, desc=Path(path).name, unit="frames")
        self.bar.update()
        return True

    def close_bar(self) -> None:
        """End the line of the video's bar."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.video_path = None, ""

    def _frame_rate(self, path: str) -> float | None:
        """Return the frame rate of what is seen of a video, stream or screen, None for a picture."""
        kind = self.dataset.source_type
        if not (kind.stream or kind.screenshot) and suffix_of(path) not in VID_FORMATS:
            return None
        return float(self.dataset.rates.get(path) or self.dataset.fps or 30.0) / int(self.args.vid_stride)

    def log_end(self) -> None:
        """Log mean time per image of each stage and where files went."""
        if not self.seen:
            LOGGER.warning("the source held no readable image")
        elif self.args.verbose and not self.args.embed:
            spent = zip(STAGES, self.timers, strict=True)
            parts = ", ".join(f"{t.t / self.seen * 1e3:.1f}ms {name}" for name, t in spent)
            LOGGER.info(f"Speed: {parts}{self._tracking()} per image at {self.imgsz[0]}x{self.imgsz[1]}")
        self.writer.log()

    def _tracking(self) -> str:
        """Return the time of the tracker, and the part of all that the detector takes; empty without a tracker."""
        if self.tracks is None:
            return ""
        detector, tracker = sum(t.t for t in self.timers), self.track_timer.t
        part = detector / max(detector + tracker, 1e-9)
        return f", {tracker / self.seen * 1e3:.1f}ms tracking (the detector takes {part:.0%} of the time)"


class RunFolder:
    """The folder of one place, chosen on first use, and the names that are taken in it."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._path: Path | None = None

    def path(self, args: Args) -> Path:
        """Return the folder; `args` name the place if it is not chosen yet."""
        if self._path is None:
            self._path = Path(get_save_dir(args))
        return self._path
