"""A small detection set drawn from nothing: shaded toys on textured tables, for a machine without network or data.

Five classes that differ in shape, in varied size, rotation, overlap, light and colour, with shadows, lens blur and
sensor noise. The same seed gives the same images. A box is the tight frame of the whole object, hidden parts
included, cut off at the image. Shapes: H, W image; S side of one object's patch.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ultralytics.utils.errors import DatasetError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.torch_tools.arrays import Float32Array

Rng = np.random.Generator

DEMO_CLASSES = ("ball", "block", "wedge", "star", "ring")
VERSION = 1
MARKER = "demo.json"  # records what a folder was drawn with
_ASPECTS = ((0.75, 1.0), (1.0, 1.0), (1.0, 0.75), (0.625, 1.0))  # height, width as parts of imgsz
_HUES = (2, 107, 28, 140, 62)  # usual hue of each class, OpenCV degrees (0..179)
_ODD_COLOUR = 0.25  # share of objects in another hue, so that colour alone does not decide
_MIN_VISIBLE = 0.55  # no object may be hidden by more than the rest
_SIZES = (0.08, 0.36)  # object diameter as part of the image's short side


class Light(NamedTuple):
    """Direction towards the light: x right, y down, z towards the viewer; unit length."""

    x: float
    y: float
    z: float


@dataclass
class Toy:
    """One drawn object: class id, outline mask (S, S) in 0..1, shaded colour (S, S, 3) BGR in 0..1."""

    cls: int
    mask: Float32Array
    colour: Float32Array


# ---- textures ---------------------------------------------------------------------------------------------------


def fractal_noise(rng: Rng, h: int, w: int, cell: float, octaves: int = 4, stretch: float = 1.0) -> Float32Array:
    """Return smooth noise (h, w) in 0..1 whose largest cells are `cell` px high and `cell * stretch` px wide."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        size = cell / 2**octave
        grid = rng.random((max(2, int(h / size) + 2), max(2, int(w / (size * stretch)) + 2)), np.float32)
        total += cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _wood(rng: Rng, h: int, w: int) -> Float32Array:
    """Planks with a grain that runs along them."""
    y = np.arange(h, dtype=np.float32)[:, None] + np.zeros((1, w), np.float32)
    bend = fractal_noise(rng, h, w, 90, 3, stretch=6)
    grain = 0.5 + 0.5 * np.sin(y * 0.22 + bend * 42) * fractal_noise(rng, h, w, 30, 2, stretch=8)
    plank = int(rng.integers(90, 170))
    tone = rng.uniform(0.8, 1.1, h // plank + 2).astype(np.float32)[(y // plank).astype(int)]
    seam = np.clip(np.abs(y % plank - plank / 2) - plank / 2 + 3, 0, 1.5) / 1.5
    return (0.62 + 0.38 * grain) * tone * (1 - 0.6 * seam)


def _felt(rng: Rng, h: int, w: int) -> Float32Array:
    """Short fibres with soft folds."""
    fibres = cv2.GaussianBlur(rng.random((h, w), np.float32), (0, 0), 0.9)
    return 0.55 + 0.9 * (fibres - 0.5) + 0.45 * fractal_noise(rng, h, w, 200, 3)


def _stone(rng: Rng, h: int, w: int) -> Float32Array:
    """Clouded slab with dark and bright specks."""
    base = 0.6 + 0.4 * fractal_noise(rng, h, w, 120, 6)
    specks = cv2.GaussianBlur((rng.random((h, w)) > 0.985).astype(np.float32), (0, 0), 1.1)
    return base + specks * rng.choice([-1.4, 1.1])


def _pebbles(rng: Rng, h: int, w: int) -> Float32Array:
    """Rounded stones: the distance to the nearest of scattered points."""
    seeds = np.full((h, w), 255, np.uint8)
    seeds[rng.integers(0, h, h * w // 700), rng.integers(0, w, h * w // 700)] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 5)
    return 1.05 - np.clip(distance / 30, 0, 1) * 0.6 + 0.25 * (fractal_noise(rng, h, w, 60, 4) - 0.5)


_TABLES: tuple[Callable[[Rng, int, int], Float32Array], ...] = (_wood, _felt, _stone, _pebbles)


def _background(rng: Rng, h: int, w: int) -> Float32Array:
    """Return a lit table (h, w, 3), BGR in 0..1."""
    kind = int(rng.integers(len(_TABLES)))
    texture = _TABLES[kind](rng, h, w)
    hue, saturation = (14, 0.55) if kind == 0 else (float(rng.uniform(0, 180)), float(rng.uniform(0.05, 0.35)))
    value = float(rng.uniform(0.5, 0.85))
    tint = fractal_noise(rng, h, w, 160, 3)
    hsv = np.dstack(
        [
            np.full((h, w), hue * 2, np.float32) + 12 * (tint - 0.5),
            np.full((h, w), saturation, np.float32) * (0.8 + 0.4 * tint),
            np.clip(texture * value, 0.02, 1).astype(np.float32),
        ]
    )
    hsv[..., 0] %= 360
    return np.asarray(cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2BGR), np.float32)


# ---- objects ----------------------------------------------------------------------------------------------------


def _outline(cls: int, rng: Rng) -> Float32Array:
    """Return the corners (P, 2) of a class in a circle of radius 1, before rotation."""
    if DEMO_CLASSES[cls] == "block":
        aspect = float(rng.uniform(0.55, 0.95))
        corner = np.array([1.0, aspect]) / np.hypot(1.0, aspect)
        return (np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * corner).astype(np.float32)
    if DEMO_CLASSES[cls] == "wedge":
        angles = np.radians([90, 90 + rng.uniform(112, 128), 90 - rng.uniform(112, 128)])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    if DEMO_CLASSES[cls] == "star":
        angles = np.radians(np.arange(10) * 36.0)
        radii = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.42, 0.5))
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32)
    angles = np.radians(np.arange(0, 360, 4.0))
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def _mask(cls: int, radius: float, rng: Rng) -> Float32Array:
    """Return the antialiased outline (S, S) of a turned and slightly squashed object, drawn at twice the size."""
    side = 2 * int(np.ceil(radius)) + 4
    angle, squash = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = _outline(cls, rng) @ turn.T * [1.0, squash]
    canvas = np.zeros((2 * side, 2 * side), np.uint8)

    def fill(scale: float, value: int) -> None:
        points = np.round((shape * scale * radius * 2 + side) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [points], value, cv2.LINE_AA, shift=4)

    fill(1.0, 255)
    if DEMO_CLASSES[cls] == "ring":
        fill(float(rng.uniform(0.45, 0.6)), 0)
    if DEMO_CLASSES[cls] in {"block", "wedge"}:  # rounded corners
        canvas = (cv2.GaussianBlur(canvas, (0, 0), max(1.0, radius * 0.1)) > 127).astype(np.uint8) * 255
    return np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _shade(mask: Float32Array, bevel: float, light: Light, rng: Rng) -> tuple[Float32Array, Float32Array]:
    """Return diffuse and specular light (S, S) of a body whose rim is rounded over `bevel` px."""
    depth = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    rim = 1 - np.clip(depth / bevel, 0, 1)
    height = cv2.GaussianBlur(bevel * np.sqrt(1 - rim * rim), (0, 0), max(0.8, bevel * 0.06))
    dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    norm = np.sqrt(dx * dx + dy * dy + 1)
    facing = (-dx * light.x - dy * light.y + light.z) / norm
    half = np.array([light.x, light.y, light.z + 1])
    half /= np.linalg.norm(half)
    gloss = np.clip((-dx * half[0] - dy * half[1] + half[2]) / norm, 0, 1) ** float(rng.uniform(25, 60))
    return np.clip(facing, 0, 1), gloss * float(rng.uniform(0.15, 0.55))


def _toy(rng: Rng, radius: float, light: Light) -> Toy:
    """Draw one object of a random class."""
    cls = int(rng.integers(len(DEMO_CLASSES)))
    mask = _mask(cls, radius, rng)
    side = len(mask)
    hue = _HUES[cls] + rng.normal(0, 5) if rng.random() > _ODD_COLOUR else rng.uniform(0, 180)
    hsv = np.array([[[hue * 2 % 360, rng.uniform(0.55, 0.9), rng.uniform(0.6, 0.95)]]], np.float32)
    colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]
    bevel = {"ball": 0.97, "ring": 0.24, "star": 0.3}.get(DEMO_CLASSES[cls], 0.16) * radius
    diffuse, gloss = _shade(mask, max(bevel, 1.5), light, rng)
    worn = 0.85 + 0.3 * fractal_noise(rng, side, side, max(4.0, radius / 2), 4)
    body = colour * ((0.3 + 0.8 * diffuse) * worn)[..., None] + gloss[..., None]
    return Toy(cls, mask, np.clip(body, 0, 1).astype(np.float32))


# ---- the scene --------------------------------------------------------------------------------------------------


class _Scene:
    """An image under construction: pixels, owner of each pixel (0 = table), boxes and areas of the objects."""

    def __init__(self, rng: Rng, h: int, w: int) -> None:
        self.rng = rng
        turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.9)
        self.light = Light(float(np.cos(turn) * tilt), float(np.sin(turn) * tilt), float(np.sqrt(1 - tilt * tilt)))
        self.image = _background(rng, h, w)
        self.owner = np.zeros((h, w), np.int32)
        self.rows: list[tuple[int, float, float, float, float]] = []
        self.areas: list[int] = []

    def place(self, toy: Toy, cx: float, cy: float) -> bool:
        """Put an object down unless it, or one below it, would be hidden too much."""
        h, w = self.owner.shape
        side = len(toy.mask)
        left, top = int(cx - side / 2), int(cy - side / 2)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, w), min(top + side, h)
        part = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
        region = (slice(y1, y2), slice(x1, x2))
        solid = toy.mask[part] > 0.5
        if solid.sum() < 0.7 * (toy.mask > 0.5).sum() or not self._leaves_visible(region, solid):
            return False
        self._shadow(toy.mask, left, top)
        alpha = toy.mask[part][..., None]
        self.image[region] = self.image[region] * (1 - alpha) + toy.colour[part] * alpha
        self.rows.append((toy.cls, *self._frame(solid, x1, y1)))
        self.areas.append(int(solid.sum()))
        self.owner[region][solid] = len(self.rows)
        return True

    def _leaves_visible(self, region: tuple[slice, slice], solid: NDArray[np.bool_]) -> bool:
        covered = np.bincount(self.owner[region][solid], minlength=len(self.areas) + 1)[1:]
        total = np.bincount(self.owner.ravel(), minlength=len(self.areas) + 1)[1:]
        return all((t - c) >= _MIN_VISIBLE * a for t, c, a in zip(total, covered, self.areas, strict=True))

    def _frame(self, solid: NDArray[np.bool_], x1: int, y1: int) -> tuple[float, float, float, float]:
        """Return the tight frame of a mask as cx, cy, w, h in fractions of the image."""
        h, w = self.owner.shape
        ys, xs = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        a, b, c, d = x1 + xs[0], y1 + ys[0], x1 + xs[-1] + 1, y1 + ys[-1] + 1
        return (a + c) / 2 / w, (b + d) / 2 / h, (c - a) / w, (d - b) / h

    def _shadow(self, mask: Float32Array, left: int, top: int) -> None:
        """Darken the table on the side away from the light."""
        h, w = self.owner.shape
        side = len(mask)
        reach = 0.16 * side
        shift = np.array([[1, 0, left - self.light.x * reach], [0, 1, top - self.light.y * reach]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(mask, shift, (w, h)), (0, 0), max(1.5, 0.05 * side))
        self.image *= 1 - 0.5 * shadow[..., None]

    def photograph(self) -> NDArray[np.uint8]:
        """Return the scene as a camera sees it: uneven light, blur, colour cast, sensor noise; uint8 (H, W, 3)."""
        h, w = self.owner.shape
        rng = self.rng
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
        light = 1 + 0.18 * (x * self.light.x + y * self.light.y) - rng.uniform(0.05, 0.2) * (x * x + y * y)
        image = self.image * light[..., None] * rng.uniform(0.94, 1.06, 3).astype(np.float32)
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)))
        grain = rng.standard_normal((h, w, 3), np.float32)
        image += grain * (float(rng.uniform(0.006, 0.02)) * np.sqrt(np.clip(image, 0.02, 1)) * 1.5)
        return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def draw_scene(rng: Rng, h: int, w: int) -> tuple[NDArray[np.uint8], list[tuple[int, float, float, float, float]]]:
    """Draw one image (h, w, 3) BGR and its rows (class, cx, cy, w, h), boxes as fractions of the image.

    >>> image, rows = draw_scene(np.random.default_rng(0), 96, 128)
    >>> image.shape, len(rows) > 0
    ((96, 128, 3), True)
    """
    scene = _Scene(rng, h, w)
    wanted = int(rng.integers(3, 9))
    for _ in range(6 * wanted):
        size = min(h, w) * float(np.exp(rng.uniform(*np.log(_SIZES))))
        toy = _toy(rng, max(size / 2, 5.0), scene.light)
        scene.place(toy, float(rng.uniform(0.03, 0.97)) * w, float(rng.uniform(0.03, 0.97)) * h)
        if len(scene.rows) == wanted:
            break
    return scene.photograph(), scene.rows


# ---- the set on disk --------------------------------------------------------------------------------------------


def generate_demo(root: str | Path, train: int = 24, val: int = 8, seed: int = 0, imgsz: int = 640) -> Path:
    """Draw the demo set into `root` (`images/{train,val}`, `labels/{train,val}`, `demo.json`) and return the folder.

    The folder appears whole or not at all. A folder that already holds this very set is left as it is. `imgsz` is the
    longer side of the images in pixels.

    Raises:
        DatasetError: the folder holds something else, or a count or size is out of bounds.
    """
    root = Path(root)
    recipe = {"version": VERSION, "train": train, "val": val, "seed": seed, "imgsz": imgsz}
    if min(train, val) < 1 or imgsz < 64:
        raise DatasetError(f"demo set: train={train} and val={val} must be at least 1, imgsz={imgsz} at least 64")
    if _holds(root, recipe):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            _write_split(temp, split, count, (seed, number), imgsz)
        with atomic_write(temp / MARKER) as file:
            json.dump({**recipe, "names": list(DEMO_CLASSES)}, file)
        temp.chmod(0o755)
        _move_into_place(temp, root, recipe)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return root


def _write_split(root: Path, split: str, count: int, key: tuple[int, int], imgsz: int) -> None:
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng((*key, i))
        h, w = (round(imgsz * part) for part in _ASPECTS[int(rng.integers(len(_ASPECTS)))])
        picture, rows = draw_scene(rng, h, w)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 96))])
        (images / f"demo_{i:05d}.jpg").write_bytes(data.tobytes())
        text = "".join(f"{c} {x:.6f} {y:.6f} {bw:.6f} {bh:.6f}\n" for c, x, y, bw, bh in rows)
        (labels / f"demo_{i:05d}.txt").write_text(text, encoding="utf-8")


def _holds(root: Path, recipe: Mapping[str, Any]) -> bool:
    """Return whether `root` has this very set, False when it is free; raise DatasetError when it is taken."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DatasetError(f"{root}: exists and is not a demo set", "move it away, or choose another folder") from None
    if {k: marker.get(k) for k in recipe} != dict(recipe):
        raise DatasetError(f"{root}: holds another demo set ({marker})", "remove it, or choose another folder")
    return True


def _move_into_place(temp: Path, root: Path, recipe: Mapping[str, Any]) -> None:
    """Rename the finished folder; another process that was quicker with the same set has done the work."""
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
    try:
        os.rename(temp, root)
    except OSError:
        if not _holds(root, recipe):
            raise


GENERATORS: Mapping[str, Callable[[Path], Path]] = {"demo": generate_demo}
"""Generators that `download:` in a data YAML may name."""
