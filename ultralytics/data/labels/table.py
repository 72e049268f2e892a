"""The labels of a split in a few arrays, of which the dict of an image is made on access.

A dict for each image is a thousand bytes and more, which every worker process of a loader copies page by page: to read
an object is to count its readers, in its own memory. Shapes: N images, T rows of all of them, S polygons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ultralytics.data.types import LabelDict
from ultralytics.utils.errors import DatasetError
from ultralytics.utils.torch_tools.arrays import Float32Array, Float64Array

_Array = NDArray[Any]

FIXED: Mapping[str, object] = {"keypoints": None, "normalized": True, "bbox_format": "xywh"}
"""What is the same in the labels of all images."""

_COLUMNS = frozenset({"im_file", "shape", "cls", "bboxes", "segments", "truth"})


class Ragged:
    """Rows of N images, one image after another: `values` (T, ...), and where those of each begin, `starts` (N + 1,).

    Raises ValueError where `counts` (N,), the number of rows of each image, are not those of the values.
    """

    def __init__(self, values: _Array, counts: ArrayLike) -> None:
        self.values = values
        self.starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        if self.starts[-1] != len(values) or (np.diff(self.starts) < 0).any():
            raise ValueError(f"{len(values)} rows where {self.starts[-1]} are counted")

    @classmethod
    def from_parts(cls, parts: Sequence[_Array], empty: _Array) -> Ragged:
        """Join the rows of all images; `empty` has no row and gives the shape of one."""
        return cls(np.concatenate([*parts, empty]), [len(part) for part in parts])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of rows of each image (N,)."""
        return np.diff(self.starts)

    @property
    def owners(self) -> NDArray[np.int64]:
        """The image of each row (T,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> _Array:
        """Return the rows of image i, 0 <= i < N: a view."""
        rows: _Array = self.values[self.starts[i] : self.starts[i + 1]]
        return rows

    def take(self, images: _Array) -> Ragged:
        """Return the rows of some images, in their order."""
        counts = self.counts[images]
        shift = self.starts[:-1][images] - (np.cumsum(counts) - counts)  # from their new positions to their old ones
        return Ragged(self.values[np.repeat(shift, counts) + np.arange(counts.sum())], counts)

    def keep(self, wanted: _Array) -> Ragged:
        """Return the rows of which `wanted` (T,) is true; images keep their place, with fewer rows or none."""
        before = np.concatenate(([0], np.cumsum(wanted)))  # (T + 1,)
        return Ragged(self.values[wanted], np.diff(before[self.starts]))


class ParsedLabels(NamedTuple):
    """The labels of one image as a reader hands them over; the fields are those of `LabelDict`."""

    im_file: str
    shape: tuple[int, int]
    cls: Float32Array
    bboxes: Float32Array
    segments: Sequence[Float32Array] = ()
    truth: Float64Array | None = None


class Label(dict[str, Any]):
    """The dict of one image. It is made again on each access, so a change would be lost: it raises TypeError."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "labels are kept as a table, and a change of one image's dict would be lost: "
            "change a copy, or override get_labels and return your own dicts"
        )

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _check(label: LabelDict) -> None:
    """Raise DatasetError where an image's classes are not (n, 1), or its boxes not (n, 4) of the same n."""
    cls, bboxes = np.shape(label["cls"]), np.shape(label["bboxes"])
    if cls != (len(label["cls"]), 1) or bboxes != (cls[0], 4):
        raise DatasetError(
            f"{label['im_file']}: labels with cls of shape {cls} and bboxes of shape {bboxes}; need (n, 1) and (n, 4)",
            "let get_labels return a class and a box for each object",
        )


@dataclass(eq=False)
class LabelTable(Sequence[LabelDict]):
    """A sequence of the label dicts of N images; boxes and classes in them are views.

    Attributes:
        im_files: The image files.
        shapes: Their (h, w) in pixels, int32 (N, 2).
        cls: Classes of the objects, (T, 1).
        bboxes: Their boxes xywh as fractions of the image, (T, 4).
        polygons: The polygons of each image, (S,), as numbers of `outlines`: one for each of its boxes, or none.
        outlines: The points of each polygon, (P, 2).
        truth: Rows for an evaluation, (U, 8), see `data.labels.TRUTH_COLUMNS`; None where there are none.
        rest: Other keys that a custom data set gave the images.
    """

    im_files: list[str]
    shapes: _Array
    cls: Ragged
    bboxes: Ragged
    polygons: Ragged
    outlines: Ragged
    truth: Ragged | None = None
    rest: list[dict[str, object]] | None = None

    @classmethod
    def from_dicts(cls, labels: Sequence[LabelDict]) -> LabelTable:
        """Return the table of given dicts; a table is returned as it is.

        Raises:
            DatasetError: classes and boxes of an image do not belong together.
        """
        if isinstance(labels, LabelTable):
            return labels
        for label in labels:
            _check(label)
        table = cls.from_images(
            [
                ParsedLabels(d["im_file"], d["shape"], d["cls"], d["bboxes"], d.get("segments", ()), d.get("truth"))
                for d in labels
            ]
        )
        rest = [{k: v for k, v in d.items() if k not in _COLUMNS and FIXED.get(k, ...) is not v} for d in labels]
        return replace(table, rest=rest) if any(rest) else table

    @classmethod
    def from_images(cls, images: Sequence[ParsedLabels]) -> LabelTable:
        """Return the table of the labels of some images; it has the `truth` of all of them, or none."""
        outlines = [polygon for image in images for polygon in image.segments]
        truth = [image.truth for image in images if image.truth is not None]
        return cls(
            im_files=[image.im_file for image in images],
            shapes=np.asarray([image.shape for image in images], np.int32).reshape(-1, 2),  # (N, 2)
            cls=Ragged.from_parts([image.cls for image in images], np.zeros((0, 1), np.float32)),
            bboxes=Ragged.from_parts([image.bboxes for image in images], np.zeros((0, 4), np.float32)),
            polygons=Ragged(np.arange(len(outlines)), [len(image.segments) for image in images]),
            outlines=Ragged.from_parts(outlines, np.zeros((0, 2), np.float32)),
            truth=Ragged.from_parts(truth, np.zeros((0, 8))) if images and len(truth) == len(images) else None,
        )

    def __len__(self) -> int:
        return len(self.im_files)

    @overload
    def __getitem__(self, i: int) -> LabelDict: ...

    @overload
    def __getitem__(self, i: slice) -> list[LabelDict]: ...

    def __getitem__(self, i: int | slice) -> LabelDict | list[LabelDict]:
        """Return the dict of image i, or those of a slice."""
        if isinstance(i, slice):
            return [self._label(j) for j in range(len(self))[i]]
        return self._label(range(len(self))[i])

    def __iter__(self) -> Iterator[LabelDict]:
        return map(self._label, range(len(self)))

    def _label(self, i: int) -> LabelDict:
        label: dict[str, Any] = {
            "im_file": self.im_files[i],
            "shape": self.shape(i),
            "cls": self.cls[i],
            "bboxes": self.bboxes[i],
            "segments": [self.outlines[j] for j in self.polygons[i]],
            **FIXED,
        }
        if self.truth is not None:
            label["truth"] = self.truth[i]
        return cast(LabelDict, Label(label if self.rest is None else {**label, **self.rest[i]}))

    def shape(self, i: int) -> tuple[int, int]:
        """Return the (h, w) of image i."""
        height, width = self.shapes[i].tolist()
        return height, width

    def set_shape(self, i: int, shape: tuple[int, int]) -> None:
        """Set the (h, w) of image i."""
        self.shapes[i] = shape

    def take(self, images: _Array) -> LabelTable:
        """Return the table of some images, in their order; `images` are their numbers."""
        order = images.tolist()
        return replace(
            self,
            im_files=[self.im_files[i] for i in order],
            shapes=self.shapes[images],
            cls=self.cls.take(images),
            bboxes=self.bboxes.take(images),
            polygons=self.polygons.take(images),
            truth=None if self.truth is None else self.truth.take(images),
            rest=None if self.rest is None else [self.rest[i] for i in order],
        )

    def only(self, classes: ArrayLike) -> LabelTable:
        """Return the table with the objects of some classes alone; images without any stay."""
        wanted = np.isin(self.cls.values[:, 0], classes)
        number = np.arange(len(wanted)) - self.cls.starts[self.cls.owners]  # of each object in its image
        outlined = number < self.polygons.counts[self.cls.owners]
        return replace(
            self,
            cls=self.cls.keep(wanted),
            bboxes=self.bboxes.keep(wanted),
            polygons=self.polygons.keep(wanted[outlined]),
            truth=None if self.truth is None else self.truth.keep(np.isin(self.truth.values[:, 0], classes)),
        )

    def of_one_class(self) -> LabelTable:
        """Return the table with class 0 for all objects."""
        return replace(self, cls=Ragged(np.zeros_like(self.cls.values), self.cls.counts))
