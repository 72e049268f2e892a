"""`yolo push`: a folder of `format=hf` uploaded to the hub by `huggingface_hub`, when it is asked for."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from ultralytics.engine.export.weights_forms import Exportable, export_weights
from ultralytics.nn.export.transformers_folder import CARD, CONFIG, PROCESSOR, TENSORS
from ultralytics.utils.checks import require
from ultralytics.utils.errors import ConfigError, printable
from ultralytics.utils.log import LOGGER

FILES = (CONFIG, TENSORS, PROCESSOR, CARD)
_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def push_model(model: Exportable, repo: str, private: bool, message: str, name: str) -> str:
    """Write a model as `format=hf` does, upload the folder, and return the address of the repository.

    Args:
        model: What is uploaded.
        repo: `owner/name` on the hub; it is made where it does not exist.
        private: Whether a repository that is made is private; one that exists stays as it is.
        message: Message of the commit.
        name: Name of the model in its card.

    Raises what `push_folder` and `export_weights` raise.
    """
    _hub_package(repo)
    with tempfile.TemporaryDirectory() as work:
        return push_folder(export_weights(model, "hf", Path(work) / name), repo, private, message)


def push_folder(folder: str | Path, repo: str, private: bool = True, message: str = "Upload model") -> str:
    """Upload a folder of `format=hf`, and return the address of the repository.

    Raises:
        MissingPackageError: `huggingface_hub` is not installed.
        ConfigError: not a name of a repository, not such a folder, or the hub refuses.
    """
    api, folder = _hub_package(repo).HfApi(), Path(folder)
    missing = [name for name in (CONFIG, TENSORS) if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder}: has no {missing[0]}", "yolo export format=hf writes such a folder")
    try:
        address = str(api.create_repo(repo_id=repo, private=private, exist_ok=True))
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message, allow_patterns=list(FILES))
    except _upload_errors() as e:
        reason = printable((str(e).strip().splitlines() or [type(e).__name__])[0])
        raise ConfigError(f"repo={repo}: the upload failed ({reason:.300})\ncheck the name, and HF_TOKEN") from None
    LOGGER.info(f"{address} has {', '.join(name for name in FILES if (folder / name).is_file())}")
    return address


def _upload_errors() -> tuple[type[Exception], ...]:
    """What the package raises; the errors of its HTTP library do not derive from those of Python."""
    libraries = [sys.modules[name] for name in ("httpx", "httpx2") if sys.modules.get(name) is not None]
    found = [getattr(library, "HTTPError", OSError) for library in libraries]
    return (OSError, RuntimeError, ValueError, *found)


def _hub_package(repo: str) -> Any:
    """Check the name of a repository, and import `huggingface_hub`."""
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise ConfigError(f"repo={repo!r:.120}: a repository is written owner/name")
    return require("huggingface_hub", "uploading to the hub", "hub")
