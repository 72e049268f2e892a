"""What the backbones of other libraries have in common: a list of maps, and weights from a file on this disk.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import user_path
from ultralytics.utils.log import LOGGER

TensorReader: TypeAlias = Callable[[Path], Mapping[str, Tensor]]
"""Gives the tensors of a weights file by name; what stands in the file is never run."""

PROBE_MAP = (256, 320)  # height and width of the probe image; no two strides agree in both sides


class MapBackbone(nn.Module):
    """A backbone that returns its maps, finest first. Nothing is read from disk while it is built.

    Args:
        model: Name in its library.
        pretrained: Take pretrained weights when a training run starts from the YAML, see `load_row_weights`.
        stages: Which maps, counted from 0 for the finest that the network has; None for all.
        weights: A file of weights, in place of the cache's.
    """

    def __init__(
        self, model: str, pretrained: bool = False, stages: Sequence[int] | None = None, weights: str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(pretrained, bool):
            raise ConfigError(f"{type(self).__name__}: pretrained={pretrained!r}; write true or false")
        self.source, self.pretrained, self.weights = model, pretrained or weights is not None, weights
        self.stages = None if stages is None else tuple(stages)

    def pick(self, count: int) -> list[int]:
        """Return the indices of the stages among `count` maps; ConfigError for one that there is not."""
        if self.stages is None:
            return list(range(count))[-5:]
        if not all(isinstance(s, int) and 0 <= s < count for s in self.stages) or not self.stages:
            raise ConfigError(
                f"{type(self).__name__}: stages={list(self.stages)}; {self.source} has maps 0 to {count - 1}"
            )
        return sorted(self.stages)

    @abstractmethod
    def candidates(self) -> list[Path]:
        """Return the files in which the library keeps the weights, the likeliest first."""

    @abstractmethod
    def read_weights(self, path: Path, read: TensorReader) -> None:
        """Take the weights of a file, by the library's own reader or by `read`."""

    def load_weights(self, read: TensorReader) -> Path:
        """Take the row's weights from disk and return their file; NotFoundError with the file to place."""
        files = [user_path(self.weights)] if self.weights else self.candidates()
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise NotFoundError(
                f"no pretrained weights of {self.source} on this disk: {files[0].name} is not in {files[0].parent}",
                f"place the file {files[0].name} in {files[0].parent}, or write pretrained false in the row",
            )
        self.read_weights(found, read)
        return found


def load_row_weights(model: nn.Module, read: TensorReader) -> list[Path]:
    """Give the rows that ask for pretrained weights theirs, from files on this disk; return those files.

    Called once, when a training run starts from a YAML. Nothing is downloaded. `read` gives the tensors of a file.

    Raises:
        NotFoundError: A file is not there; the message has its name and folder.
        CheckpointError: A file is damaged or holds more than tensors.
    """
    files = []
    for module in model.modules():
        if isinstance(module, MapBackbone) and module.pretrained:
            files.append(module.load_weights(read))
            LOGGER.info(f"{module.source}: pretrained weights of {files[-1]}")
    return files


def hub_file(name: str) -> Path:
    """A file in the folder where torch keeps weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name
