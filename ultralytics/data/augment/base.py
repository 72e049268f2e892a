"""The sample that augmentations work on, and how they are chained.

Every random draw comes from the sample's own generator, so a sample depends on (seed, epoch, index) and on nothing
else: not on the worker that made it, nor on the samples before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import Instances

Transform = Callable[[Sample], Any]


class BaseTransform:
    """A transform in three parts: change the image, change the objects, or both at once.

    Subclasses draw their parameters from `labels["rng"]` once, so that image and objects agree.
    """

    def __call__(self, labels: Sample) -> Any:
        """Return the changed sample; the given dict may be changed in place."""
        raise NotImplementedError

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if isinstance(v, (int, float, str, tuple)))
        return f"{type(self).__name__}({values})"


class Compose:
    """A chain of transforms that can be indexed and edited."""

    def __init__(self, transforms: Transform | Sequence[Transform]) -> None:
        self.transforms: list[Transform] = list(transforms) if isinstance(transforms, Sequence) else [transforms]

    def __call__(self, data: Any) -> Any:
        """Apply the transforms in order."""
        for transform in self.transforms:
            data = transform(data)
        return data

    def append(self, transform: Transform) -> None:
        """Add a transform at the end."""
        self.transforms.append(transform)

    def insert(self, index: int, transform: Transform) -> None:
        """Put a transform before position `index`."""
        self.transforms.insert(index, transform)

    def __getitem__(self, index: int | list[int] | slice) -> Transform | Compose:
        """Return one transform, or a shorter chain for a list or slice."""
        if isinstance(index, int):
            return self.transforms[index]
        if isinstance(index, slice):
            return Compose(self.transforms[index])
        return Compose([self.transforms[i] for i in index])

    def __setitem__(self, index: int, transform: Transform) -> None:
        self.transforms[index] = transform

    def __len__(self) -> int:
        return len(self.transforms)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)

    def tolist(self) -> list[Transform]:
        """Return the transforms as a list."""
        return list(self.transforms)

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


def chance(rng: np.random.Generator, p: float) -> bool:
    """Return True with probability `p`; always draws, so that a changed `p` leaves later draws where they were."""
    return bool(rng.random() < p)


class SampleSource(Protocol):
    """What mixing transforms need of a data set: its length, and any of its samples before transforms."""

    def __len__(self) -> int: ...

    def get_image_and_label(self, index: int) -> Sample:
        """Return the sample at `index`."""
        ...


class MixTransform(BaseTransform):
    """Base of transforms that need other samples, applied with probability `p`.

    Partners are drawn from the whole data set by the sample's own generator, so they do not depend on what a worker
    happened to load before. `pre_transform` is applied to each partner.
    """

    def __init__(self, dataset: SampleSource, pre_transform: Transform | None = None, p: float = 0.0) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"probability {p} must lie between 0 and 1")
        self.dataset, self.pre_transform, self.p = dataset, pre_transform, float(p)

    def __call__(self, labels: Sample) -> Sample:
        """Mix the sample with others, or leave it."""
        if not chance(labels["rng"], self.p):
            return labels
        return self.mix(labels)

    def mix(self, labels: Sample) -> Sample:
        """Return the mixed sample."""
        raise NotImplementedError

    def partners(self, rng: np.random.Generator, n: int) -> list[Sample]:
        """Draw `n` other samples, with replacement."""
        picked = [self.dataset.get_image_and_label(int(i)) for i in rng.integers(0, len(self.dataset), n).tolist()]
        for sample in picked:
            sample["rng"] = rng
        return picked if self.pre_transform is None else [self.pre_transform(s) for s in picked]


def in_pixels(labels: Sample) -> Instances:
    """Bring a sample's objects to xyxy in pixels and return them."""
    instances = labels["instances"]
    instances.convert_bbox("xyxy")
    instances.denormalize(labels["img"].shape[1], labels["img"].shape[0])
    return instances
