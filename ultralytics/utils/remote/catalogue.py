"""The catalogue of published weights (`cfg/published_weights.yaml`), and models of the hub by `hf:owner/name`.

Looking a name up reads one file of the package; nothing is asked of the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from ultralytics.utils.checks import nearest
from ultralytics.utils.config.paths import CFG_DIR
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import TENSOR_SUFFIXES
from ultralytics.utils.remote.web import is_web_address

CATALOGUE = CFG_DIR / "published_weights.yaml"
HUB = "hf:"
HUB_FILES = ("config.json", "model.safetensors")
"""Files of a model on the hub, the weights last."""
ENDPOINT = "https://huggingface.co"
_HUB_NAME = re.compile(r"hf:([\w.-]{1,96})/([\w.-]{1,96})(?:@([\w.-]{1,96}))?", re.ASCII)


@dataclass(frozen=True)
class RemoteFile:
    """One file: its name below the weights folder, and its address."""

    file: str
    url: str


@dataclass(frozen=True)
class PublishedWeights:
    """One row of the catalogue.

    Attributes:
        name: What `yolo fetch` takes.
        family: Name of its family in the catalogue.
        files: What is fetched, the weights last; empty where no lasting address is known.
        weights: Path of the weights below the weights folder.
        licence: Licence of the weights, an empty string where it is unknown.
        page: Page that publishes them.
        names: Name of a data YAML with the class names, for weights that hold none.
        model: Model YAML that they fit; None where that is not checked.
        keys: Names of tensors that the file must have.
        accuracy: AP on COCO, or top-1 on ImageNet, as published.
        sha256: Hash of the weights where it is known.
        size: Bytes of the weights where they are known.
    """

    name: str
    family: str
    files: tuple[RemoteFile, ...]
    weights: str
    licence: str = ""
    page: str = ""
    names: str | None = None
    model: str | None = None
    keys: tuple[str, ...] = ()
    accuracy: str = ""
    sha256: str | None = None
    size: int | None = None

    @property
    def address(self) -> str:
        """Where the weights lie, or the page that publishes them."""
        return self.files[-1].url if self.files else self.page


def hub_endpoint() -> str:
    """Address of the hub: `HF_ENDPOINT` where it is set, such as a mirror."""
    given = (os.getenv("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not is_web_address(given):
        raise ConfigError(f"HF_ENDPOINT={given} is not an http or https address")
    return given


def hub_address(owner: str, name: str, file: str, revision: str = "main") -> str:
    """Address of a file of a model on the hub."""
    return f"{hub_endpoint()}/{quote(owner)}/{quote(name)}/resolve/{quote(revision)}/{quote(file)}"


@cache
def _rows() -> Mapping[str, Any]:
    return MappingProxyType(YAML.load(CATALOGUE))


def published_weights() -> list[PublishedWeights]:
    """Return all rows of the catalogue."""
    return [_published(name) for name in _rows()["weights"]]


def redirect_hosts(url: str) -> tuple[str, ...]:
    """Hosts to which an address may lead, beside its own."""
    found: Mapping[str, list[str]] = _rows()["redirects"]
    host = urlsplit(url).hostname or ""
    hub = urlsplit(hub_endpoint()).hostname
    return tuple(found.get("huggingface.co" if host == hub else host, ()))


def find_published(text: str) -> PublishedWeights | None:
    """Return the weights of a name, None for one that is not published here.

    `rtdetr-r18`, `rtdetr_r18.pt` and the name of the published file are the same; `hf:owner/name` (also `@revision`)
    is any model of the hub.
    """
    if text.startswith(HUB):
        return _published(text) if text in _rows()["weights"] else _on_hub(text)
    name = _plain(text)
    for row, fields in _rows()["weights"].items():
        if name in (_plain(row), _plain(str(fields.get("file", "")))) and not row.startswith(HUB):
            return _published(row)
    return None


def known_weights(text: str) -> PublishedWeights:
    """Return the weights of a name. Raises NotFoundError, with the nearest names, for one that is not published."""
    found = find_published(text)
    if found is None:
        names = list(_rows()["weights"])
        near = nearest(_plain(text), names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names[:6])}, ..."
        raise NotFoundError(f"{text}: no published weights of that name", f"{hint} `yolo fetch` lists them")
    return found


def _plain(text: str) -> str:
    """A name without the suffix of a weights file, in small letters, with hyphens."""
    lower = text.strip().lower()
    ending = next((e for e in TENSOR_SUFFIXES if lower.endswith(e)), "")
    return lower.removesuffix(ending).replace("_", "-")


def _published(name: str) -> PublishedWeights:
    row: Mapping[str, Any] = _rows()["weights"][name]
    family: Mapping[str, Any] = _rows()["families"][row["family"]]
    basis = _on_hub(name) if name.startswith(HUB) else None
    source = row.get("source")
    files = (RemoteFile(str(row["file"]), _resolved(source)),) if source else ()
    shown = f"AP {row['ap']}" if "ap" in row else f"top-1 {row['top1']}" if "top1" in row else ""
    return PublishedWeights(
        name=name,
        family=str(row["family"]),
        files=basis.files if basis else files,
        weights=basis.weights if basis else str(row["file"]),
        licence=str(family["licence"]),
        page=str(family["page"]),
        names=family.get("names"),
        model=row.get("model"),
        keys=tuple(row.get("keys", ())),
        accuracy=shown,
        sha256=row.get("sha256"),
        size=row.get("bytes"),
    )


def _resolved(source: str) -> str:
    """The address of a source: `hf:owner/name/file` lies on the hub."""
    if not source.startswith(HUB):
        return source
    owner, name, file = source.removeprefix(HUB).split("/", 2)
    return hub_address(owner, name, file)


def _on_hub(text: str) -> PublishedWeights:
    """A model on the hub; ConfigError for a name that no model can have."""
    match = _HUB_NAME.fullmatch(text)
    if match is None or ".." in text:
        raise ConfigError(f"{text!r:.120}: a model on the hub is written hf:owner/name, or hf:owner/name@revision")
    owner, name, revision = match[1], match[2], match[3] or "main"
    folder = f"{owner}--{name}" + (f"@{revision}" if match[3] else "")
    files = tuple(RemoteFile(f"{folder}/{file}", hub_address(owner, name, file, revision)) for file in HUB_FILES)
    page = f"{hub_endpoint()}/{owner}/{name}"
    return PublishedWeights(text, "hub", files, files[-1].file, page=page)


def weights_folder(folder: str | Path | None = None) -> Path:
    """The folder of weights: the given one, else that of the settings."""
    return Path(folder if folder is not None else SETTINGS["weights_dir"]).expanduser()
