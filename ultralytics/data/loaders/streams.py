"""Readers of cameras and network streams: every frame, or always the newest."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from ultralytics.data.images import as_uint8
from ultralytics.data.loaders.urls import is_address
from ultralytics.utils.errors import NotFoundError
from ultralytics.utils.torch_tools.arrays import Pixels

OPEN_TIMEOUT_MS = 15_000
READ_TIMEOUT_MS = 15_000


def open_capture(source: str) -> cv2.VideoCapture:
    """Open a camera number, an address or a file; an address that does not answer is given up after a while."""
    if source.isdigit():
        return cv2.VideoCapture(int(source))
    if not is_address(source):
        return cv2.VideoCapture(source)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)


class Reader:
    """Reads frames one after the other, every `stride`-th."""

    def __init__(self, capture: cv2.VideoCapture, stride: int) -> None:
        self.capture, self.stride = capture, stride
        self.fps = float(capture.get(cv2.CAP_PROP_FPS) or 0.0)

    def next(self) -> Pixels | None:
        """Return the next frame, (H, W, C); None when the source has ended."""
        for _ in range(self.stride):
            self.capture.grab()
        ok, image = self.capture.retrieve()
        return as_uint8(np.asarray(image)) if ok else None

    def close(self) -> None:
        """Release the source."""
        self.capture.release()


class NewestReader(Reader):
    """Reads in a thread and keeps the newest frame alone, so that a slow network sees what is there now."""

    def __init__(self, capture: cv2.VideoCapture, stride: int) -> None:
        super().__init__(capture, stride)
        self._state = threading.Condition()
        self._frame: Pixels | None = None
        self._ended = self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            frame = super().next()
            with self._state:
                self._ended = frame is None
                self._frame = self._frame if frame is None else frame
                self._state.notify_all()
                if self._ended:
                    return

    def next(self) -> Pixels | None:
        """Wait for a frame that was not seen yet; None when the stream has ended."""
        with self._state:
            self._state.wait_for(lambda: self._frame is not None or self._ended)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop reading, then release the source; a read that hangs is left to its own time limit."""
        self._stop = True
        self._thread.join(READ_TIMEOUT_MS / 1000)
        if not self._thread.is_alive():
            super().close()


def make_reader(source: str, stride: int, every_frame: bool) -> Reader:
    """Open a camera, address or file; only what is live, and of which not every frame is wanted, is read ahead.

    Raises:
        NotFoundError: it cannot be opened.
    """
    capture = open_capture(source)
    if not capture.isOpened():
        raise NotFoundError(f"source={source}: the camera or stream cannot be opened")
    live = source.isdigit() or is_address(source)
    return NewestReader(capture, stride) if live and not every_frame else Reader(capture, stride)
