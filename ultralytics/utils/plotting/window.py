"""Showing images on the screen."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import cv2
import numpy as np
import numpy.typing as npt

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.plotting.annotator import encoded_png

REMEDY = "save the images (save=True) and look at the files"


def show_image(title: str, image: npt.NDArray[np.uint8], wait_ms: int) -> None:
    """Show a BGR image in the window of that title for `wait_ms`; 0 waits for a key, and closes the window then.

    In a notebook it appears below the cell.

    Raises:
        ConfigError: there is no screen, or this OpenCV has no windows.
    """
    notebook = sys.modules.get("IPython.display")
    if notebook is not None and "ipykernel" in sys.modules:
        notebook.display(notebook.Image(data=encoded_png(image)))
        return
    # Without a display the Qt of OpenCV's Linux wheels ends the whole process, so it must not be asked.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError("show: no screen here, neither DISPLAY nor WAYLAND_DISPLAY is set", REMEDY)
    try:
        cv2.imshow(title, image)
        cv2.waitKey(wait_ms)
    except cv2.error as e:
        raise ConfigError("show: no window can be opened here", REMEDY) from e
    if not wait_ms:
        with suppress(cv2.error):  # the user may have closed it
            cv2.destroyWindow(title)
