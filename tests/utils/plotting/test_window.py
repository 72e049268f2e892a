"""Showing a picture: in a window where there is a screen, else an error that the caller can catch."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.plotting.window import show_image

IMAGE = np.zeros((4, 6, 3), np.uint8)
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def calls(monkeypatch):
    """What OpenCV is asked for, on a Linux machine without a screen."""
    asked = []
    monkeypatch.setattr(sys, "platform", "linux")
    for name in DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    for name in ("imshow", "waitKey", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *args, name=name: asked.append((name, args[-1])))
    return asked


@pytest.mark.parametrize("value", [None, ""])
def test_opencv_is_not_asked_without_a_screen(calls, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("DISPLAY", value)
    with pytest.raises(ConfigError, match=r"neither DISPLAY nor WAYLAND_DISPLAY(.|\n)*save=True"):
        show_image("a", IMAGE, 1)
    assert calls == []


@pytest.mark.parametrize("given", [*DISPLAYS, "darwin", "win32"])
def test_a_frame_stays_for_its_time(calls, monkeypatch, given):
    if given in DISPLAYS:
        monkeypatch.setenv(given, ":0")
    else:
        monkeypatch.setattr(sys, "platform", given)
    show_image("a", IMAGE, 20)
    assert [(name, value) for name, value in calls if name != "imshow"] == [("waitKey", 20)]


def test_a_window_that_waits_for_a_key_is_closed(calls, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    show_image("a", IMAGE, 0)
    assert calls[-1] == ("destroyWindow", "a")
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: cv2.resize(IMAGE, (0, 0)))  # the user closed it: an error
    show_image("a", IMAGE, 0)


def test_an_opencv_without_windows_is_an_error(calls, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda *args: cv2.resize(IMAGE, (0, 0)))
    with pytest.raises(ConfigError, match="no window"):
        show_image("a", IMAGE, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a screen or an error of their own")
def test_the_process_lives_on():
    code = (
        "import numpy as np\nfrom ultralytics.engine.results.results import Results\n"
        "try:\n    Results(np.zeros((4, 6, 3), np.uint8), 'a.png', {}).show()\n"
        "except ValueError as e:\n    print('caught', e)\n"
    )
    env = {key: value for key, value in os.environ.items() if key not in DISPLAYS}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["caught"]), done.stderr
