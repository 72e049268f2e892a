"""Class names of weights that hold none: from the `config.json` beside them, or from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.nn.checkpoint.validate import MAX_STRING
from ultralytics.utils.checks import check_yaml
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import printable
from ultralytics.utils.remote.catalogue import HUB_FILES, find_published
from ultralytics.utils.remote.web import read_small

MAX_CONFIG = 4 << 20
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def names_beside(path: str | Path, nc: int) -> dict[int, str]:
    """Return the names of the classes of a file of tensors, empty where they are unknown or not `nc`.

    A `config.json` of transformers in the folder of a `model.safetensors` has them; published weights are found in the
    catalogue by the name of the file.
    """
    path = Path(path)
    names = _of_config(path) if path.name == HUB_FILES[-1] else _of_catalogue(path.name)
    return names if sorted(names) == list(range(nc)) else {}


def _of_config(weights: Path) -> dict[int, str]:
    try:
        config: Any = read_small(weights.with_name(HUB_FILES[0]), MAX_CONFIG)
    except (OSError, ValueError):
        return {}
    labels = config.get("id2label") if isinstance(config, Mapping) else None
    if not isinstance(labels, Mapping):
        return {}
    names = {
        int(k): printable(v)[:MAX_STRING] for k, v in labels.items() if k.isascii() and k.isdecimal() and len(k) < 9
    }
    return {} if all(_PLACEHOLDER.fullmatch(name) for name in names.values()) else names


def _of_catalogue(name: str) -> dict[int, str]:
    found = find_published(name)
    if found is None or found.names is None or found.weights != name:
        return {}
    names: Mapping[int, str] = YAML.load(check_yaml(f"{found.names}.yaml", kind="datasets"))["names"]
    return {int(i): str(n) for i, n in names.items()}
