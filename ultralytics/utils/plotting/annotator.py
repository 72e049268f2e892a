"""Drawing of labelled boxes on BGR images with OpenCV.

Sizes follow the image: lines and letters stay legible on a thumbnail and on a photograph of 20 megapixels. A label has
a filled background in the box's colour, letters in black or white, whichever contrasts more, and is moved so that it
lies inside the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PilImage

from ultralytics.utils.files import atomic_write
from ultralytics.utils.torch_tools.arrays import Pixels

Color = tuple[int, int, int]

# Twenty hues that differ in lightness as well, so that neighbours in the list differ without colour vision.
_PALETTE = (
    "1f5fe0", "f2a900", "d7263d", "16a34a", "8e44ad", "00b4d8", "ff6f91", "7f5539", "b5e48c", "5f0f40",
    "ff7b00", "023e8a", "06d6a0", "c77dff", "9a031e", "ffd60a", "3a5a40", "4cc9f0", "e5989b", "6c757d",
)  # fmt: skip
_FAR = 1e6  # pixels; OpenCV takes 32-bit integers
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22  # pixels of a capital letter at font scale 1


class Colors:
    """A fixed palette; class ids beyond its end start again.

    >>> Colors()(0), Colors()(0, bgr=True), Colors()(20) == Colors()(0)
    ((31, 95, 224), (224, 95, 31), True)
    """

    def __init__(self) -> None:
        """Make the palette, (n, 3) RGB."""
        self.palette: tuple[Color, ...] = tuple(self.hex2rgb(code) for code in _PALETTE)
        self.n = len(self.palette)

    def __call__(self, i: int, bgr: bool = False) -> Color:
        """Return the colour of class `i`, in RGB or BGR order."""
        r, g, b = self.palette[int(i) % self.n]
        return (b, g, r) if bgr else (r, g, b)

    @staticmethod
    def hex2rgb(code: str) -> Color:
        """Return (r, g, b) of "rrggbb", with or without "#"."""
        code = code.lstrip("#")
        return int(code[:2], 16), int(code[2:4], 16), int(code[4:6], 16)


colors = Colors()


def _contrast(color: Color) -> Color:
    """Return black or white, whichever has the higher contrast ratio with a BGR colour (WCAG 2, relative luminance)."""
    b, g, r = (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color)
    luminance = 0.0722 * b + 0.7152 * g + 0.2126 * r
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def _drawable(im: npt.NDArray[Any]) -> Pixels:
    """Return a contiguous 3-channel uint8 copy of a grey, BGR or BGRA image."""
    if im.dtype != np.uint8:
        im = im.clip(0, 255).astype(np.uint8)
    if im.ndim == 2 or im.shape[2] == 1:
        return np.asarray(cv2.cvtColor(im.reshape(im.shape[:2]), cv2.COLOR_GRAY2BGR))
    return np.array(im[..., :3], order="C")


class Annotator:
    """Draws on a copy of an image."""

    def __init__(
        self,
        im: npt.NDArray[Any] | torch.Tensor,
        line_width: float | None = None,
        font_size: float | None = None,
        font: str = "Arial.ttf",
        pil: bool = False,
        example: str = "abc",
    ) -> None:
        """Take a (H, W[, C]) BGR image; `line_width` in pixels, `font_size` = height of a capital letter in pixels.

        Both default to sizes that suit the image. `font`, `pil` and `example` are taken for scripts of the interface
        and have no effect: OpenCV draws all letters.
        """
        self.im = _drawable(im.detach().cpu().numpy() if isinstance(im, torch.Tensor) else im)
        h, w = self.im.shape[:2]
        self.lw = max(round(line_width), 1) if line_width else max(round((h + w) / 2 * 0.003), 2)
        letter = font_size or min(max((h + w) / 2 * 0.017, 9.0), max(max(h, w) / 10, 7.0))
        self.scale = letter / _FONT_HEIGHT
        self.tf = max(round(letter / 9), 1)  # thickness of the strokes

    def box_label(
        self,
        box: Sequence[float] | npt.NDArray[Any],
        label: str = "",
        color: Color = (128, 128, 128),
        txt_color: Color | None = None,
    ) -> None:
        """Draw an xyxy box in pixels and its label, in BGR colours; letters are black or white by default."""
        edges = [float(v) for v in box[:4]]
        if not all(map(math.isfinite, edges)):
            return  # of weights that diverged: nothing to draw
        x1, y1, x2, y2 = (round(min(max(v, -_FAR), _FAR)) for v in edges)
        cv2.rectangle(self.im, (x1, y1), (x2, y2), color, self.lw)
        if label:
            self._label((x1, y1), label, color, txt_color or _contrast(color))

    def path(self, points: Sequence[tuple[int, int]], color: Color = (128, 128, 128)) -> None:
        """Draw a line through points (x, y) in px, in a BGR colour."""
        line = np.array(points, np.int32).reshape(-1, 1, 2)  # (n, 1, 2)
        cv2.polylines(self.im, [line], False, color, self.lw, cv2.LINE_AA)

    def _label(self, corner: tuple[int, int], label: str, color: Color, txt_color: Color) -> None:
        """Put a filled label above the corner, below it when the image ends; shifted left when it sticks out."""
        height = self._size(label, self.scale)[1]
        top = corner[1] - height if corner[1] >= height else corner[1]
        self._tag((corner[0] - self.lw // 2, top), label, color, txt_color)

    def _size(self, text: str, scale: float) -> tuple[int, int, int]:
        """Return width and height of a tag, and the place of its base line below the top."""
        (w, h), base = cv2.getTextSize(_printable(text), _FONT, scale, self.tf)
        return w + 4, h + base + 2, h + 1

    def _tag(self, at: tuple[int, int], text: str, color: Color, txt_color: Color) -> None:
        """Write text on a filled rectangle at its left top, moved and if need be shrunk so that it fits the image."""
        h, w = self.im.shape[:2]
        scale = self.scale
        width, height, base_line = self._size(text, scale)
        if width > w:
            scale *= max(w - 4, 1) / (width - 4)
            width, height, base_line = self._size(text, scale)
        left, top = max(min(at[0], w - width), 0), max(min(at[1], h - height), 0)
        cv2.rectangle(self.im, (left, top), (left + width - 1, top + height - 1), color, cv2.FILLED)
        origin = (left + 2, top + base_line)
        cv2.putText(self.im, _printable(text), origin, _FONT, scale, txt_color, self.tf, cv2.LINE_AA)

    def text(
        self,
        xy: tuple[float, float],
        text: str,
        txt_color: Color = (255, 255, 255),
        anchor: str = "top",
        box_color: Color | None = None,
    ) -> None:
        """Write text on a strip; `xy` is its left top (bottom: `anchor="bottom"`).

        The strip is black or white, by contrast, unless `box_color` is given.

        Of several lines, those that do not fit below the first are left out.
        """
        lines = text.split("\n")
        height = self._size(lines[0], self.scale)[1]
        top = round(xy[1]) - (height * len(lines) if anchor == "bottom" else 0)
        for i, line in enumerate(lines):
            if i == 0 or top + (i + 1) * height <= self.im.shape[0]:
                self._tag((round(xy[0]), top + i * height), line, box_color or _contrast(txt_color), txt_color)

    def legend(self, rows: Sequence[tuple[str, Color]]) -> None:
        """Write one line for each text and colour at the left bottom, letters in black or white by contrast."""
        height = self._size("x", self.scale)[1]
        for i, (text, color) in enumerate(rows):
            self._tag((4, self.im.shape[0] - 4 - height * (len(rows) - i)), text, color, _contrast(color))

    def rectangle(
        self, xy: Sequence[float], fill: Color | None = None, outline: Color | None = None, width: int = 1
    ) -> None:
        """Draw a plain xyxy rectangle: filled, outlined, or both; by default a white outline."""
        x1, y1, x2, y2 = (round(float(v)) for v in xy)
        if fill is not None:
            cv2.rectangle(self.im, (x1, y1), (x2, y2), fill, cv2.FILLED)
        if outline is not None or fill is None:
            cv2.rectangle(self.im, (x1, y1), (x2, y2), outline or (255, 255, 255), width)

    def result(self, pil: bool = False) -> Any:
        """Return the annotated image, (H, W, 3) BGR, or with `pil` as a Pillow image."""
        return PilImage.fromarray(np.ascontiguousarray(self.im[..., ::-1])) if pil else self.im

    def save(self, filename: str | Path = "image.jpg") -> str:
        """Write the image and return the file's name."""
        return write_image(filename, self.im)


def _printable(text: str) -> str:
    """Replace what OpenCV's font lacks by question marks: before OpenCV 5, whose font covers Unicode, all but ASCII."""
    known = "utf-8" if int(cv2.__version__.split(".")[0]) >= 5 else "ascii"
    return text.encode(known, "replace").decode(known)  # OpenCV crashes on lone surrogates


def encoded_png(im: npt.NDArray[Any]) -> bytes:
    """A BGR image as a PNG file."""
    return cv2.imencode(".png", im)[1].tobytes()


def write_image(file: str | Path, im: npt.NDArray[Any], jpeg_quality: int = 95) -> str:
    """Write a BGR image in the format of the file's suffix (any path, atomically); return the file's name.

    Raises:
        ValueError: OpenCV has no writer for the suffix.
    """
    file = Path(file)
    params = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if file.suffix.lower() in {".jpg", ".jpeg"} else []
    try:
        ok, data = cv2.imencode(file.suffix, im, params)
    except cv2.error as error:
        raise ValueError(f"{file}: cannot write images of type {file.suffix!r}") from error
    if not ok:
        raise ValueError(f"{file}: the image could not be encoded")
    with atomic_write(file, "wb") as f:
        f.write(data.tobytes())
    return str(file)


def save_one_box(
    xyxy: Sequence[float] | torch.Tensor,
    im: Pixels,
    file: str | Path = "im.jpg",
    gain: float = 1.02,
    pad: int = 10,
    square: bool = False,
    BGR: bool = False,
    save: bool = True,
) -> Pixels:
    """Cut a box out of an image (H, W, 3) in BGR order, and with `save` write it to `file`; return the crop.

    `xyxy` is (4,) in pixels. The box is made a square if asked for, then its sides grow by `gain` and `pad` pixels. The
    crop that is returned is in RGB order, with `BGR` in that of the image.
    """
    x1, y1, x2, y2 = (float(v) for v in torch.as_tensor(xyxy).flatten()[:4])
    w, h = x2 - x1, y2 - y1
    if square:
        w = h = max(w, h)
    half_w, half_h = (w * gain + pad) / 2, (h * gain + pad) / 2
    left, right = (round(min(max((x1 + x2) / 2 + s * half_w, 0), im.shape[1])) for s in (-1, 1))
    top, bottom = (round(min(max((y1 + y2) / 2 + s * half_h, 0), im.shape[0])) for s in (-1, 1))
    crop = np.ascontiguousarray(im[top:bottom, left:right])  # (h, w, 3)
    if save and crop.size:
        write_image(file, crop)
    return crop if BGR else np.ascontiguousarray(crop[..., ::-1])
