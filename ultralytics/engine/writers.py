"""Write the results of prediction: annotated images and videos, label files, crops, frames.

Nothing is created before there is something to write, and each file is complete under its final name or absent.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ultralytics.cfg import Args
from ultralytics.engine.results.results import Results
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import TEMP_SUFFIX, atomic_write
from ultralytics.utils.plotting.window import show_image
from ultralytics.utils.torch_tools.arrays import Pixels

JPEG_QUALITY = 95


class VideoSink:
    """One annotated video that is being written: MJPG in .avi, written to a temporary name and renamed when closed."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps if fps > 0 else 30.0
        self._temp = path.with_name(f".{path.stem}.tmp{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, frame: Pixels) -> None:
        """Append one BGR frame; the first one sets the size, later ones are resized to it."""
        if self._writer is None:
            self._size = (frame.shape[1], frame.shape[0])
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(str(self._temp), cv2.VideoWriter.fourcc(*"MJPG"), self.fps, self._size)
            if not self._writer.isOpened():
                raise ConfigError(f"{self.path}: this OpenCV build cannot write video", "use save_frames=True instead")
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = np.asarray(cv2.resize(frame, self._size), np.uint8)
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._temp, self.path)


class MotFile:
    """The tracks of one sequence as MOT Challenge text, written to a temporary name and renamed when closed.

    A line is frame, id, left, top, width, height, score, -1, -1, -1: frames and ids from 1, boxes in px.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._frame = path, 0
        self._temp = path.with_name(f".{path.name}{TEMP_SUFFIX}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._temp, "w", encoding="utf-8")

    def write(self, result: Results) -> None:
        """Append the boxes of the next frame."""
        self._frame += 1
        data = np.zeros((0, 7)) if result.boxes is None else np.asarray(result.boxes.numpy().data)
        for x1, y1, x2, y2, i, score, _ in data.tolist() if data.shape[1] == 7 else ():
            box = ",".join(f"{v:.2f}" for v in (x1, y1, x2 - x1, y2 - y1))
            self._file.write(f"{self._frame},{int(i)},{box},{score:.5g},-1,-1,-1\n")

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._file.close()
        os.replace(self._temp, self.path)


class ResultWriter:
    """Writes the results of one pass over a source below a run folder, as the arguments ask.

    `folder` is called when the first file is written. Sources of equal stem become name, name-2, name-3, ...; `used`
    holds the names that are taken, and may be shared by the passes that write to one folder.
    """

    def __init__(self, args: Args, folder: Callable[[], Path], used: set[str]) -> None:
        self.args = args
        self._folder = folder
        self._root: Path | None = None
        self._used = used
        self._names: dict[str, str] = {}
        self._videos: dict[str, VideoSink] = {}
        self._mot: dict[str, MotFile] = {}
        self._frames: Counter[str] = Counter()
        self._labels = 0
        self.label_file: Path | None = None  # the last label file
        self._fps: float | None = None  # of the source of the last image
        self._screen = True  # whether a window could be opened so far
        self.drawn: Pixels | None = None  # the last annotated image

    @property
    def root(self) -> Path:
        """The run folder, made on first use."""
        if self._root is None:
            self._root = self._folder()
            self._root.mkdir(parents=True, exist_ok=True)
        return self._root

    @property
    def active(self) -> bool:
        """Whether any argument asks for output."""
        a = self.args
        return any((a.save, a.save_txt, a.save_crop, a.save_frames, a.show, a.save_mot))

    def write(
        self, result: Results, source: str, fps: float | None = None, save: Callable[[Path, int], None] | None = None
    ) -> None:
        """Write one result; `fps` is the frame rate if the source is a video or stream, None for an image.

        `save` writes the drawing `drawn` (default: `save_drawn`); it gets the path without suffix and the number of
        the frame, from 1.
        """
        if not self.active:
            return
        name = self._name(source, video=fps is not None)
        self._frames[name] += 1
        item = name if fps is None else f"{name}_{self._frames[name]}"
        if self.args.save_txt:
            self._write_labels(result, item)
        if self.args.save_mot:
            sequence = name if fps is not None else sequence_name(source)
            if sequence not in self._mot:
                self._mot[sequence] = MotFile(self.root / "tracks" / f"{sequence}.txt")
            self._mot[sequence].write(result)
        if self.args.save_crop:
            result.save_crop(self.root / "crops", file_name=Path(f"{item}.jpg"))
        if self.args.save or self.args.save_frames or self.args.show:
            self._fps = fps
            self._draw(result, name, save or self.save_drawn)

    def _write_labels(self, result: Results, item: str) -> None:
        path = self.label_file = self.root / "labels" / f"{item}.txt"
        path.unlink(missing_ok=True)
        if len(result) or result.probs is not None:
            result.save_txt(path, save_conf=self.args.save_conf)
            self._labels += 1

    def _draw(self, result: Results, name: str, save: Callable[[Path, int], None]) -> None:
        """Draw a result into `drawn`, let `save` write it, and show it."""
        a = self.args
        drawn = self.drawn = result.plot(
            conf=a.show_conf, labels=a.show_labels, boxes=a.show_boxes, line_width=a.line_width
        )
        if a.save or a.save_frames:
            save(self.root / name, self._frames[name])
        if a.show:
            self._show(name, drawn)

    def _show(self, name: str, drawn: Pixels) -> None:
        """Show a picture; where no window can be opened, warn once and continue with the other outputs."""
        if self._screen:
            try:
                show_image(name, drawn, wait_ms=1 if self._fps is not None else 500)
            except ConfigError as error:
                self._screen = False
                LOGGER.warning(str(error))

    def save_drawn(self, path: Path, frame: int, drawn: Pixels | None = None) -> None:
        """Write a picture, by default the last one that was drawn, as an image, or as a frame of a video or stream."""
        drawn = self.drawn if drawn is None else drawn
        a, fps = self.args, self._fps
        if drawn is None:
            return
        if a.save and fps is None:
            write_jpeg(path.with_name(f"{path.name}.jpg"), drawn)
        elif a.save and fps is not None:
            self._videos.setdefault(str(path), VideoSink(path.with_name(f"{path.name}.avi"), fps)).write(drawn)
        if a.save_frames and fps is not None:
            write_jpeg(path.with_name(f"{path.name}_frames") / f"{frame}.jpg", drawn)

    def _name(self, source: str, video: bool) -> str:
        """Return the file stem of a source; all frames of one video share theirs."""
        if video and source in self._names:
            return self._names[source]
        stem = Path(source).stem or "image"
        name, k = stem, 2
        while name in self._used:
            name, k = f"{stem}-{k}", k + 1
        self._used.add(name)
        if video:
            self._names[source] = name
        return name

    def close(self) -> None:
        """Finish open videos and files of tracks."""
        for sink in (*self._videos.values(), *self._mot.values()):
            sink.close()
        self._videos.clear()
        self._mot.clear()

    def log(self) -> None:
        """Log where the files are."""
        if self._root is not None:
            labels = f", {self._labels} label files in {self._root / 'labels'}" if self._labels else ""
            LOGGER.info(f"Results saved to {colorstr('bold', str(self._root))}{labels}")


def sequence_name(source: str) -> str:
    """Return the name of the sequence that an image belongs to: its folder's, as MOT has it `name/img1/000001.jpg`.

    >>> sequence_name("MOT17-02/img1/000001.jpg"), sequence_name("frames/1.png"), sequence_name("image0.jpg")
    ('MOT17-02', 'frames', 'images')
    """
    folder = Path(source).parent
    return (folder.parent if folder.name == "img1" else folder).name or "images"


def write_jpeg(path: Path, image: Pixels) -> None:
    """Write a BGR image as JPEG; the path may have any characters."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with atomic_write(path, "wb") as f:
        f.write(data.tobytes())
