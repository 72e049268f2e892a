"""Reading ahead: the same batches in the same order, errors in their place, no thread left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.sets import picture
from ultralytics.data.loaders import files as loaders
from ultralytics.data.loaders.files import InferenceSource, Item, LoadImagesAndVideos, LoadPilAndNumpy
from ultralytics.data.loaders.prefetch import read_ahead


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, one of them broken, and a video of four frames."""
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"im{i}.png"), picture(seed=i))
    (tmp_path / "im2.png").write_bytes(b"no image")
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(4):
        video.write(np.full((48, 64, 3), 30 * i, np.uint8))
    video.release()
    return tmp_path


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("read_ahead")]


class Counted(InferenceSource):
    """Batches with a number; the third may fail."""

    can_run_ahead = True

    def __init__(self, batches: int, fails: bool = False) -> None:
        super().__init__()
        self.batches, self.fails = batches, fails
        self.made = 0
        self.readers: set[str] = set()
        self.closed = False
        self.alive: list[weakref.ref[np.ndarray]] = []

    def __iter__(self) -> Iterator[Item]:
        try:
            for i in range(self.batches):
                if self.fails and i == 2:
                    raise OSError("b2.jpg: gone")
                image = np.zeros((8, 8, 3), np.uint8)
                self.alive.append(weakref.ref(image))
                self.made += 1
                self.readers.add(threading.current_thread().name)
                yield [f"b{i}.jpg"], [image], [""]
        finally:
            self.closed = True


@pytest.mark.parametrize("batches", [0, 1, 5])
def test_order_and_thread(batches):
    source = Counted(batches)
    assert [paths[0] for paths, _, _ in read_ahead(source)] == [f"b{i}.jpg" for i in range(batches)]
    assert source.closed and not threads()
    assert all(name.startswith("read_ahead") for name in source.readers) and len(source.readers) == min(batches, 1)


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_files_are_those_of_the_source(folder, batch):
    plain = list(LoadImagesAndVideos(folder, batch=batch))
    ahead = list(read_ahead(LoadImagesAndVideos(folder, batch=batch)))
    assert [(p, i) for p, _, i in ahead] == [(p, i) for p, _, i in plain]
    for (_, a, _), (_, b, _) in zip(ahead, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_comes_in_its_place():
    seen = []
    with pytest.raises(OSError, match=r"b2\.jpg"):
        for paths, _, _ in read_ahead(Counted(5, fails=True)):
            seen.extend(paths)
    assert seen == ["b0.jpg", "b1.jpg"] and not threads()


def test_one_batch_ahead_and_no_more():
    source = Counted(9)
    batches = read_ahead(source)
    next(batches)
    limit = time.monotonic() + 5
    while source.made < 2 and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(0.05)
    assert source.made == 2
    batches.close()
    assert source.closed and not threads()


def test_memory_is_flat():
    source, most = Counted(8), 0
    for item in read_ahead(source):
        del item
        gc.collect()
        most = max(most, sum(ref() is not None for ref in source.alive))
    assert most <= 2


def test_a_dropped_generator_ends_its_thread(folder):
    batches = read_ahead(LoadImagesAndVideos(folder))
    next(batches)
    assert len(threads()) == 1
    del batches
    gc.collect()
    assert not threads()


@pytest.mark.parametrize("kind", ["memory", "one image"])
def test_no_thread_where_there_is_nothing_ahead(folder, monkeypatch, kind):
    monkeypatch.setattr("ultralytics.data.loaders.prefetch.ThreadPoolExecutor", None)
    source = LoadPilAndNumpy([picture()] * 3) if kind == "memory" else LoadImagesAndVideos(folder / "im0.png")
    assert len(list(read_ahead(source))) == 1


def test_live_sources_are_read_when_asked():
    assert not loaders.LoadStreams.can_run_ahead and not loaders.LoadScreenshots.can_run_ahead


def test_a_process_ends_with_a_generator_left_open(folder):
    code = f"""
from ultralytics.data.loaders.prefetch import read_ahead
from ultralytics.data.loaders.files import LoadImagesAndVideos
batches = read_ahead(LoadImagesAndVideos({str(folder)!r}))
print(next(batches)[0][0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr and done.stdout.strip().endswith("im0.png")
