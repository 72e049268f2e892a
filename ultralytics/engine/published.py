"""Published weights: found where they are on disk, and fetched when `yolo fetch` asks for them, never otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.checkpoint.class_names import MAX_CONFIG
from ultralytics.nn.checkpoint.format import as_checkpoint, foreign_tensors, read_content
from ultralytics.utils.checks import check_file
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError
from ultralytics.utils.files import atomic_write, file_sha256, user_path
from ultralytics.utils.log import LOGGER
from ultralytics.utils.remote.catalogue import (
    HUB,
    HUB_FILES,
    PublishedWeights,
    RemoteFile,
    find_published,
    hub_endpoint,
    known_weights,
    published_weights,
    redirect_hosts,
    weights_folder,
)
from ultralytics.utils.remote.pins import HashPins
from ultralytics.utils.remote.web import FetchRule, check_sha256, fetch_file, is_web_address, read_small, refuse_page
from ultralytics.utils.tables import aligned

MAX_GB = 2.0
MIN_RATE = 1024  # bytes a second, below which a transfer is given up


# ------------------------------------------------------------------------------------------------------------- on disk
def locate_weights(text: str) -> str:
    """Return the path of weights: of a folder of transformers its tensors, of a published name the fetched file.

    Anything else is returned as it is. Nothing is fetched.

    Raises:
        NotFoundError: published weights that are not there; the message has file, address, folder and command.
    """
    path = user_path(text)
    if (path / HUB_FILES[-1]).is_file() and (path / HUB_FILES[0]).is_file():
        return str(path / HUB_FILES[-1])
    if path.is_file() or (len(path.parts) != 1 and not text.startswith(HUB)):
        return text
    found = find_published(text)
    if found is None:
        return text
    target = weights_folder() / found.weights
    if target.is_file():
        return str(target)
    command = f"`yolo fetch {found.name}` fetches it" if found.files else f"{found.page} says where it is published"
    raise NotFoundError(
        f"{text}: {found.weights} is not in {weights_folder().resolve()}, and nothing is fetched unasked\n"
        f"{command}; by hand: {found.address}\n"
        f"put it at {target.resolve()}"
    )


def weights_path(text: str) -> Path:
    """Return the path of a weights file by path or published name; errors are those of `check_file` and above."""
    return check_file(locate_weights(text))


# ------------------------------------------------------------------------------------------------------------ fetching
def fetch_weights(
    names: str | Sequence[str] = (),
    folder: str | Path | None = None,
    mirror: str | None = None,
    max_gb: float = MAX_GB,
) -> list[Path]:
    """Fetch published weights by name into the weights folder, and return the paths of the weights.

    A file is read by the safe reader, and compared with its hash, before it gets its name; a hash that is not in the
    catalogue is noted at the first fetch. What is already there is only checked.

    Args:
        names: Names of the catalogue, or `hf:owner/name`; without any the catalogue is listed.
        folder: Where to put them; None: `weights_dir` of the settings.
        mirror: A folder, or a base address, that has the files under their own names.
        max_gb: The most gigabytes that a file may have.

    Raises:
        NotFoundError: there is no such name, no lasting address, or the address cannot be read.
        ConfigError: what comes is not what was asked for.
        CheckpointError: the file is not one that is read here.
    """
    wanted = [known_weights(name) for name in ([names] if isinstance(names, str) else names)]
    for line in [] if wanted else _catalogue_lines():
        LOGGER.info(line)
    return [_Fetching(weights, weights_folder(folder), mirror, max_gb)() for weights in wanted]


def _catalogue_lines() -> list[str]:
    """The catalogue as a table: name, accuracy, licence, file, and whether it is in the weights folder."""
    folder = weights_folder()
    rows = [("name", "accuracy", "licence", "here", "file")]
    for w in published_weights():
        here = "yes" if (folder / w.weights).is_file() else "" if w.files else "by hand"
        rows.append((w.name, w.accuracy, w.licence, here, w.weights))
    return aligned(rows, left=range(len(rows[0])))


class _Fetching:
    """One row of the catalogue on its way into a folder."""

    def __init__(self, weights: PublishedWeights, folder: Path, mirror: str | None, max_gb: float) -> None:
        if not weights.files and mirror is None:
            raise NotFoundError(
                f"{weights.name}: no lasting address is known; {weights.page} says where it is published\n"
                f"put the file at {folder / weights.weights}, or give mirror= with a folder or address that has it"
            )
        self.weights, self.folder, self.mirror, self.max_gb = weights, folder, mirror, max_gb
        self.pins = HashPins(folder)
        self.files = weights.files or (RemoteFile(weights.weights, ""),)
        self._remedy = f"remove the file and its entry in {self.pins.path} if another version is right"

    def __call__(self) -> Path:
        """Fetch what is missing, check everything, and return the path of the weights."""
        LOGGER.info(f"{self.weights.name}: {self.weights.accuracy}, licence {self.weights.licence or 'see its page'}")
        for file in self.files:
            self._file(file)
        target = self.folder / self.weights.weights
        name = self.weights.name if self.weights.name.startswith(HUB) else f"{self.weights.name}.pt"
        LOGGER.info(f"{target} ({target.stat().st_size:,} bytes); its name in model= and pretrained= is {name}")
        return target

    def _file(self, file: RemoteFile) -> None:
        """Fetch or check one file, and note its hash."""
        target = self.folder / file.file
        known = self.pins.sha256(file.file)
        wanted = (self.weights.sha256 if self._is_weights(file) else None) or known
        origin = self._origin(file)
        if target.is_file():
            check_sha256(target, wanted, str(target), self._remedy)
            if not wanted:
                self._check(file, target)
        elif is_web_address(origin):
            fetch_file(origin, target, self._rule(origin, file, wanted), partial(self._check, file))
        else:
            self._copy(Path(origin), target, file, wanted)
        if known is None:
            self.pins.note(file.file, wanted or file_sha256(target), target.stat().st_size, origin)

    def _origin(self, file: RemoteFile) -> str:
        """Address or path of a file: at the mirror under its own name where there is one."""
        if self.mirror is None:
            return file.url
        if is_web_address(self.mirror):
            return f"{self.mirror.rstrip('/')}/{quote(file.file)}"
        return str(user_path(self.mirror) / file.file)

    def _rule(self, url: str, file: RemoteFile, sha256: str | None) -> FetchRule:
        hosts = redirect_hosts(url) if self.mirror is None else ()
        limit = (self.weights.size or int(self.max_gb * 1e9)) if self._is_weights(file) else MAX_CONFIG
        on_hub = urlsplit(url).hostname == urlsplit(hub_endpoint()).hostname
        token = os.getenv("HF_TOKEN", "") if on_hub and url.startswith("https://") else ""
        return FetchRule(
            max_bytes=limit,
            hosts=hosts,
            sha256=sha256,
            remedy=self._remedy,
            weights=self._is_weights(file),
            min_rate=MIN_RATE,
            token=token,
        )

    def _copy(self, source: Path, target: Path, file: RemoteFile, sha256: str | None) -> None:
        """Take a file from a folder."""
        if not source.is_file():
            raise NotFoundError(f"{source}: no such file in the mirror", "its files have the names of `yolo fetch`")
        if self._is_weights(file):
            with source.open("rb") as f:
                refuse_page(f.read(512), "", str(source))
        check_sha256(source, sha256, str(source), self._remedy)
        self._check(file, source)
        with source.open("rb") as f, atomic_write(target, "wb") as copy:
            shutil.copyfileobj(f, copy, 1 << 20)

    def _is_weights(self, file: RemoteFile) -> bool:
        return file.file == self.weights.weights

    def _check(self, file: RemoteFile, path: Path) -> None:
        """Read a complete file as data, and compare it with what the catalogue says of it."""
        if self._is_weights(file):
            check_published(path, self.weights)
            return
        try:
            read_small(path, MAX_CONFIG)
        except ValueError as e:
            raise ConfigError(f"{file.url or path}: not a configuration ({e})", "check the name of the model") from None


def check_published(path: Path, weights: PublishedWeights) -> None:
    """Read weights by the safe reader. Raises CheckpointError where they are not those of the catalogue's row."""
    content = read_content(path)
    data = as_checkpoint(content, path)
    record: Any = data.get("ema") or data.get("model")
    if weights.keys:
        tensors = foreign_tensors(content) or {}
        missing = [key for key in weights.keys if key not in tensors]
        if missing:
            raise CheckpointError(f"{path.name}: not {weights.name}, it lacks the tensor {missing[0]}")
    elif not isinstance(record, Mapping):
        raise CheckpointError(f"{path.name}: holds tensors, but not a detector that is known here")
    if weights.model and _rows_of(record["yaml"]) != _rows_of(load_model_yaml(weights.model).data):
        raise CheckpointError(f"{path.name}: not {weights.name}, its network is not that of {weights.model}")


def _rows_of(yaml: Mapping[str, Any]) -> list[Any]:
    return [yaml.get("backbone"), yaml.get("head")]
