"""Where the weights of a model come from: what a call takes from their file, and whether they were ever changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ultralytics.utils.errors import NotFoundError
from ultralytics.utils.log import LOGGER

UNTRAINED = "its weights are untrained: train it, or load() a weights file"


def stored_precision(ckpt: Mapping[str, Any] | None, mode: str) -> dict[str, Any]:
    """Arguments of a call: float32 for weights that were trained in it, so that `val` gives the figures of the run."""
    amp = ((ckpt or {}).get("train_args") or {}).get("amp")
    return {"amp": False} if mode in {"val", "predict", "track"} and amp in (False, "fp32") else {}


@contextmanager
def naming_stored_data(stored: object, given: Mapping[str, Any], weights: str | None) -> Iterator[None]:
    """Say in the error about a missing data set that its path was stored in the weights file, where it was."""
    try:
        yield
    except NotFoundError as e:
        if stored is None or weights is None or given.get("data") is not None or given.get("resume"):
            raise
        raise NotFoundError(str(e).splitlines()[0], f"data={stored} was stored in {weights}: pass data=my.yaml") from e


class NewWeights:
    """Watches a network that was built from a YAML: are its weights still those of the construction?

    In-place changes count: an optimizer's step, `load_state_dict`, `load()`.
    """

    def __init__(self) -> None:
        self._versions: int | None = None
        self._named = False

    def note(self, network: nn.Module) -> None:
        """Take the weights of a network as untrained."""
        self._versions = _versions(network)

    def warn(self, network: Any, name: str, mode: str) -> None:
        """Log one warning before such a network is used; training is what it is for."""
        if mode == "train" or self._versions is None or self._named:
            return
        if _versions(network) == self._versions:
            self._named = True
            LOGGER.warning(f"{mode} with {name}: {UNTRAINED}")


def _versions(network: nn.Module) -> int:
    """How often the tensors of a network were changed in place."""
    return sum(int(tensor._version) for tensor in network.parameters())
