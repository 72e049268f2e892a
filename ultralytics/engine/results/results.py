"""The result of prediction on one image: the image, its boxes or class probabilities, drawn, converted and stored."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ultralytics.engine.results.boxes import Boxes, Data, Probs
from ultralytics.utils.checks import class_table, require
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.ops import clip_boxes
from ultralytics.utils.plotting.annotator import Annotator, Color, colors, encoded_png, write_image
from ultralytics.utils.plotting.window import show_image
from ultralytics.utils.tables import csv_of
from ultralytics.utils.torch_tools.arrays import Pixels

if TYPE_CHECKING:
    import pandas as pd

Speed = dict[str, float | None]

DEFAULT_FONT = "Arial.ttf"  # what callers of the interface pass for the default font
CROP_GAIN = 1.02  # a crop is this much larger than its box ...
CROP_MARGIN = 10  # ... and this many pixels more, over both sides together


class Results:
    """Detections on one image, or the class of the whole image.

    `orig_img` (H, W, 3) BGR, `orig_shape` (H, W), `boxes`, `probs`, `names` {class id: name}, `path` of the image,
    `speed` in ms per stage, `save_dir` of the run if there is one, `trails` the last centres (x, y) of each tracked
    object by its id, which are drawn with the boxes. Length and index are those of the boxes; the
    attributes of other tasks exist and are None.
    """

    masks = keypoints = obb = semantic_mask = depth = None

    def __init__(
        self,
        orig_img: npt.NDArray[Any],
        path: str,
        names: Mapping[int, str] | Sequence[str],
        boxes: Data | Boxes | None = None,
        masks: None = None,
        probs: Data | Probs | None = None,
        keypoints: None = None,
        obb: None = None,
        speed: Mapping[str, float | None] | None = None,
        semantic_mask: None = None,
        depth: None = None,
    ) -> None:
        """Hold an image and its boxes, (N, 6) or (N, 7) rows of `Boxes`, or its class probabilities (K,).

        Raises:
            ConfigError: values of a task that is not available here.
        """
        others = {"masks": masks, "keypoints": keypoints, "obb": obb, "semantic_mask": semantic_mask, "depth": depth}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ConfigError(f"{', '.join(given)}: results here are boxes or class probabilities", "leave them out")
        self.orig_img = orig_img
        self.orig_shape: tuple[int, int] = (int(orig_img.shape[0]), int(orig_img.shape[1]))
        self.boxes = boxes if isinstance(boxes, Boxes) or boxes is None else Boxes(boxes, self.orig_shape)
        self.probs = probs if isinstance(probs, Probs) or probs is None else Probs(probs, self.orig_shape)
        self.names = class_table(names)
        self.path = str(path)
        stages: Speed = {"preprocess": None, "inference": None, "postprocess": None}
        self.speed: Speed = {**stages, **(speed or {})}
        self.save_dir: str | None = None
        self.trails: Mapping[int, Sequence[tuple[int, int]]] = {}

    # ------------------------------------------------------------------------------------------------ container

    def __len__(self) -> int:
        """Return the number of boxes."""
        return 0 if self.boxes is None else len(self.boxes)

    def __getitem__(self, index: Any) -> Results:
        """Return the same image with the chosen boxes."""
        return self._with(None if self.boxes is None else self.boxes[index], self.probs)

    def __iter__(self) -> Iterator[Results]:
        """Go through the boxes, one Results each."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """Show the path and the detections."""
        return f"Results(path={self.path!r}, orig_shape={self.orig_shape}, found={self.verbose().rstrip(', ')!r})"

    def _with(self, boxes: Boxes | None, probs: Probs | None) -> Results:
        """Return an object with other boxes and probabilities and everything else the same."""
        result = Results(self.orig_img, self.path, self.names, boxes, probs=probs, speed=self.speed)
        result.save_dir, result.trails = self.save_dir, self.trails
        return result

    def new(self) -> Results:
        """Return the same image without boxes and probabilities."""
        return self._with(None, None)

    def update(
        self,
        boxes: Data | None = None,
        masks: None = None,
        probs: Data | None = None,
        obb: None = None,
        keypoints: None = None,
        semantic_mask: None = None,
        depth: None = None,
    ) -> None:
        """Replace the boxes, which are clipped to the image, or the probabilities; there is nothing else to replace.

        Raises:
            ConfigError: masks, oriented boxes, keypoints or depth, which results do not have here.
        """
        if any(part is not None for part in (masks, obb, keypoints, semantic_mask, depth)):
            raise ConfigError(
                "masks, obb, keypoints, depth: results hold boxes or class probabilities",
                "leave them out",
            )
        if probs is not None:
            self.probs = Probs(probs, self.orig_shape)
        if boxes is None:
            return
        if isinstance(boxes, Tensor):
            joined: Data = torch.cat([clip_boxes(boxes[..., :4], self.orig_shape), boxes[..., 4:]], -1)
        else:
            joined = np.concatenate([clip_boxes(boxes[..., :4], self.orig_shape), boxes[..., 4:]], -1)
        self.boxes = Boxes(joined, self.orig_shape)

    def _moved(self, method: str, *args: object, **kwargs: object) -> Results:
        """Return a copy whose data went through a method of `BaseTensor`."""
        boxes = None if self.boxes is None else getattr(self.boxes, method)(*args, **kwargs)
        return self._with(boxes, None if self.probs is None else getattr(self.probs, method)(*args, **kwargs))

    def cpu(self) -> Results:
        """Return a copy with its data in host memory."""
        return self._moved("cpu")

    def numpy(self) -> Results:
        """Return a copy with its data as NumPy arrays."""
        return self._moved("numpy")

    def cuda(self) -> Results:
        """Return a copy with its data on the current CUDA device."""
        return self._moved("cuda")

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """Return a copy with its data moved by `torch.Tensor.to`."""
        return self._moved("to", *args, **kwargs)

    # -------------------------------------------------------------------------------------------------- drawing

    def plot(
        self,
        conf: bool = True,
        line_width: int | None = None,
        font_size: float | None = None,
        font: str = DEFAULT_FONT,
        pil: bool = False,
        img: npt.NDArray[Any] | Tensor | None = None,
        kpt_radius: int = 5,
        kpt_line: bool = True,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        probs: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
        color_mode: str = "class",
        txt_color: Color | None = None,
    ) -> Any:
        """Return the image with its boxes or classes drawn: a BGR array, or a PIL image (RGB) with `pil`.

        The best box is on top; of the classes the best five are listed, best first.

        `line_width` and `font_size` (height of a capital letter) are in pixels and follow the image by default. `img`
        is drawn on instead of the original: (H, W, 3) BGR uint8. `conf` and `labels` choose the content of a label,
        `boxes=False` and `probs=False` draw none. `color_mode` is "class" or "instance". `txt_color` (BGR) is black or
        white, by contrast, by default. `show` opens a window, `save` writes `filename`. `masks`, `kpt_radius` and
        `kpt_line` exist for callers of the interface: there are neither masks nor key points to draw.

        Raises:
            ConfigError: an unknown `color_mode`, another `font` than OpenCV's, which is always used, or `show` where
                there is no screen.
        """
        if font != DEFAULT_FONT:
            raise ConfigError(f"font={font!r}: letters are drawn by OpenCV with its own font", "leave font out")
        if color_mode not in ("class", "instance"):
            raise ConfigError(f"color_mode is 'class' or 'instance', not {color_mode!r}")
        canvas = self.orig_img if img is None else img
        annotator = Annotator(canvas.cpu().numpy() if isinstance(canvas, Tensor) else canvas, line_width, font_size)
        if boxes:
            self._draw_boxes(annotator, conf, labels, color_mode, txt_color)
        if probs and labels:
            self._draw_classes(annotator, conf)
        drawn = annotator.result()
        if show:
            show_image(self.path, drawn, wait_ms=0)
        if save:
            write_image(filename or self._default_name(), drawn)
        if pil:
            from PIL import Image as PILImage

            return PILImage.fromarray(drawn[..., ::-1])
        return drawn

    def _draw_boxes(
        self, annotator: Annotator, conf: bool, labels: bool, color_mode: str, txt_color: Color | None
    ) -> None:
        """Draw from the last box to the first."""
        rows = self._rows()
        for key, trail in self.trails.items():
            annotator.path(trail, colors(key, bgr=True))
        for i in reversed(range(len(rows))):
            xyxy, score, c, track = rows[i]
            label = f"id:{track} {self._name(c)}" if track is not None else self._name(c)
            text = f"{label} {score:.2f}" if conf else label
            color = colors(c if color_mode == "class" else (i if track is None else track), bgr=True)
            annotator.box_label(xyxy, text if labels else "", color, txt_color)

    def _draw_classes(self, annotator: Annotator, conf: bool) -> None:
        """List the best five classes in the top left corner, if there are class probabilities."""
        if self.probs is not None:
            lines = [f"{name} {score:.2f}" if conf else name for name, _, score in self._classes()]
            annotator.text((4, 4), "\n".join(lines))

    def _rows(self) -> list[tuple[list[float], float, int, int | None]]:
        """Return (xyxy, confidence, class id, track id) of each box as plain numbers."""
        if self.boxes is None:
            return []
        data = np.asarray(self.boxes.numpy().data)
        track = data[:, -3].astype(int).tolist() if self.boxes.is_track else [None] * len(data)
        return list(
            zip(data[:, :4].tolist(), data[:, -2].tolist(), data[:, -1].astype(int).tolist(), track, strict=True)
        )

    def _classes(self) -> list[tuple[str, int, float]]:
        """Return (name, class id, probability) of the five best classes, best first."""
        if self.probs is None:
            return []
        scores = np.asarray(self.probs.numpy().data)
        return [(self._name(c), c, float(scores[c])) for c in self.probs.top5]

    def _name(self, c: int) -> str:
        """Return a class name, its number when it has none."""
        return self.names.get(c, str(c))

    def _default_name(self) -> str:
        """Return the name of a saved image: `results_<image name>`."""
        name = Path(self.path).name or "image.jpg"
        return f"results_{name if Path(name).suffix else name + '.jpg'}"

    def _repr_png_(self) -> bytes:
        """The image with its boxes or classes, which a notebook shows."""
        return encoded_png(self.plot())

    def show(self, **kwargs: Any) -> None:
        """Draw with the arguments of `plot` and show the image in a window until a key is pressed."""
        self.plot(show=True, **kwargs)

    # -------------------------------------------------------------------------------------------------- storing

    def save(self, filename: str | Path | None = None, **kwargs: Any) -> str:
        """Draw with the arguments of `plot`, write the image and return its file name."""
        file = str(filename or self._default_name())
        self.plot(save=True, filename=file, **kwargs)
        return file

    def verbose(self) -> str:
        """Return the detections counted by class id: "2 cats, 1 dog, "; "(no detections), " when there is nothing.

        For a classified image the best five classes: "cat 0.90, dog 0.06, ...".
        """
        if self.probs is not None:
            return "".join(f"{name} {score:.2f}, " for name, _, score in self._classes())
        counts = Counter(c for _, _, c, _ in self._rows())
        if not counts:
            return "(no detections), "
        return "".join(f"{n} {_plural(self._name(c), n)}, " for c, n in sorted(counts.items()))

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Append a line `class cx cy w h [confidence] [track id]` per box, normalised; return the file's name.

        Nothing is written when there is no box. For a classified image the lines are `confidence name`, best first.
        """
        h, w = self.orig_shape
        lines = [f"{score:.2f} {name}\n" for name, _, score in self._classes()]
        for (x1, y1, x2, y2), score, c, track in self._rows():
            values = [c, (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
            values += [score] * save_conf + ([] if track is None else [track])
            lines.append(" ".join(f"{v:g}" for v in values) + "\n")
        if lines:
            file = Path(txt_file)
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            with atomic_write(file) as f:
                f.write(before + "".join(lines))
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[str]:
        """Write each box, enlarged a little, as `save_dir/<class>/<file_name>`; return the names.

        A name that exists gets "-2", "-3", ... before its suffix. The format is JPEG.
        """
        files = []
        for xyxy, _, c, _ in self._rows():
            folder = re.sub(r'[\\/:*?"<>|]', "_", self._name(c)).strip(". ") or str(c)  # a name is not a path
            files.append(write_image(_free_name(Path(save_dir) / folder / Path(file_name).name), self._crop(xyxy)))
        return files

    def _crop(self, xyxy: list[float]) -> Pixels:
        """Cut a box with its margin out of the image; at least one pixel."""
        x1, y1, x2, y2 = xyxy
        h, w = self.orig_shape
        half_w, half_h = (((size * CROP_GAIN) + CROP_MARGIN) / 2 for size in (x2 - x1, y2 - y1))
        left, top = max(int((x1 + x2) / 2 - half_w), 0), max(int((y1 + y2) / 2 - half_h), 0)
        right, bottom = min(int((x1 + x2) / 2 + half_w), w), min(int((y1 + y2) / 2 + half_h), h)
        left, top = min(left, w - 1), min(top, h - 1)
        return self.orig_img[top : max(bottom, top + 1), left : max(right, left + 1)]

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return a dict per box: name, class, confidence, box {x1, y1, x2, y2} in pixels or 0 to 1[, track_id].

        For a classified image a dict for each of the best five classes: name, class, confidence.
        """
        if self.probs is not None:
            return [{"name": n, "class": c, "confidence": round(score, decimals)} for n, c, score in self._classes()]
        h, w = self.orig_shape if normalize else (1, 1)
        rows: list[dict[str, Any]] = []
        for xyxy, score, c, track in self._rows():
            box = {
                k: round(v / s, decimals) for k, v, s in zip(("x1", "y1", "x2", "y2"), xyxy, (w, h, w, h), strict=True)
            }
            row = {"name": self._name(c), "class": c, "confidence": round(score, decimals), "box": box}
            rows.append(row if track is None else {**row, "track_id": track})
        return rows

    def to_df(self, normalize: bool = False, decimals: int = 5) -> pd.DataFrame:
        """Return a pandas table: name, class, confidence, x1, y1, x2, y2[, track_id]."""
        import pandas as pd

        columns = ["name", "class", "confidence"]
        if self.probs is not None:
            return pd.DataFrame(self.summary(normalize, decimals), columns=columns)
        columns += ["x1", "y1", "x2", "y2"]
        columns += ["track_id"] if self.boxes is not None and self.boxes.is_track else []
        rows = [{**row, **row["box"]} for row in self.summary(normalize, decimals)]
        return pd.DataFrame(rows, columns=columns)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the table as CSV text."""
        return csv_of(self.to_df(normalize, decimals))

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary(normalize, decimals), indent=2, ensure_ascii=False)

    def tojson(self, normalize: bool = False, decimals: int = 5) -> str:
        """Do the same as `to_json` (the older name)."""
        return self.to_json(normalize, decimals)

    def to_coco(self, image_id: int | str | None = None, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """Return a COCO result row per box: image_id, category_id, bbox [left, top, width, height] in pixels, score.

        `image_id` is by default the file's stem, as a number if it is one; `category_ids` are the numbers of the
        classes, by default the class ids.
        """
        stem = Path(self.path).stem
        number: int | str = (int(stem) if stem.isdecimal() else stem) if image_id is None else image_id
        return [
            {
                "image_id": number,
                "category_id": c if category_ids is None else category_ids[c],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 5),
            }
            for (x1, y1, x2, y2), score, c, _ in self._rows()
        ]

    def to_supervision(self) -> Any:
        """Return the boxes as `supervision.Detections`, class names in `data["class_name"]`.

        Raises:
            MissingPackageError: the package `supervision` is not installed.
        """
        supervision = require("supervision", "Results.to_supervision()")
        rows = self._rows()
        track = (
            np.array([t for _, _, _, t in rows], dtype=int) if self.boxes is not None and self.boxes.is_track else None
        )
        return supervision.Detections(
            xyxy=np.array([xyxy for xyxy, *_ in rows], dtype=np.float32).reshape(-1, 4),
            confidence=np.array([score for _, score, *_ in rows], dtype=np.float32),
            class_id=np.array([c for _, _, c, _ in rows], dtype=int),
            tracker_id=track,
            data={"class_name": np.array([self._name(c) for _, _, c, _ in rows], dtype=str)},
        )


def _free_name(file: Path) -> Path:
    """Return the JPEG name, numbered from 2 when it is taken."""
    file = file.with_suffix(".jpg")
    candidate, i = file, 1
    while candidate.exists():
        i += 1
        candidate = file.with_name(f"{file.stem}-{i}.jpg")
    return candidate


def _plural(name: str, n: int) -> str:
    """The name of `n` objects: an s more, unless it has one or is not in Latin letters.

    >>> _plural("cat", 2), _plural("Platelets", 2), _plural("cat", 1)
    ('cats', 'Platelets', 'cat')
    """
    return f"{name}s" if n > 1 and name.isascii() and not name.lower().endswith("s") else name
