"""A model as a pickled checkpoint for scripts that read `torch.load(file)["model"]` as a network.

The file holds no code and no classes of this package. Loading it calls the constructor of the class
`ultralytics.nn.tasks.RTDETRDetectionModel` where it is loaded, with the YAML, and then `load_state_dict`; so it needs
torch's full unpickler there, as every checkpoint of that interface does. This package never reads it that way.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics import __version__
from ultralytics.nn.checkpoint.format import save_tensors, to_plain
from ultralytics.nn.export.stock_state_dict import check_stock, upstream_state, upstream_yaml

NETWORK = ("ultralytics.nn.tasks", "RTDETRDetectionModel")


class PickledCall:
    """Pickles as a call: what it loads as is what `function(*args)` returns there.

    `state` is handed to `__setstate__` of the result, or as `setter(result, state)` to a function.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *args: object,
        state: Mapping[str, object] | None = None,
        setter: Callable[..., object] | None = None,
    ) -> None:
        self.function, self.args, self.state, self.setter = function, args, state, setter

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args, self.state, None, None, self.setter

    def __call__(self, *args: object) -> object:
        """Stand for a function, as which it is pickled."""
        raise TypeError("a pickled call has no result before it is loaded")


def export_stock(model: nn.Module, stem: Path, train_args: Mapping[str, object]) -> Path:
    """Write `<stem>_stock.pt` and return its path.

    Raises ConfigError for a fused model, another task, or rows that stock `ultralytics` does not have.
    """
    network = check_stock(model, "stock")
    path = stem.with_name(f"{stem.name}_stock.pt")
    module, name = NETWORK
    cls = PickledCall(getattr, PickledCall(importlib.import_module, module), name)
    built = PickledCall(
        cls, upstream_yaml(network), int(network.yaml.get("channels", 3)), network.nc, False,
        state=upstream_state(network), setter=nn.Module.load_state_dict,
    )  # fmt: skip
    named = PickledCall(copy.copy, built, state={"names": dict(network.names), "args": to_plain(dict(train_args))})
    checkpoint = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "epoch": -1,
        "best_fitness": None,
        "model": named,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": to_plain(dict(train_args)),
        "train_metrics": {},
        "train_results": {},
    }
    save_tensors(path, checkpoint, protocol=4)
    return path
