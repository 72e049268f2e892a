"""Which blocks of a model are the user's own, and what a checkpoint stores about the files that define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.files import PACK_SUFFIX
from ultralytics.utils.log import LOGGER
from ultralytics.utils.user_modules import UserFile, origin


def user_blocks(model: nn.Module) -> dict[str, UserFile]:
    """YAML names of the registered blocks in a model that come from a file of the user's, with that file."""
    used = {type(m) for m in model.modules()}
    blocks: dict[str, UserFile] = {}
    for name in REGISTRY:
        entry = REGISTRY.get(name)
        if entry is not None and entry.cls in used and (file := origin(entry.cls)) is not None:
            blocks[name] = file
    return blocks


def pack_user_modules(model: nn.Module) -> list[dict[str, Any]]:
    """Return what a checkpoint stores about the files of the user: name, sha256 and the blocks taken from each."""
    files: dict[UserFile, list[str]] = {}
    for block, file in user_blocks(model).items():
        files.setdefault(file, []).append(block)
    return [{"name": file.name, "sha256": file.sha256, "blocks": blocks} for file, blocks in files.items()]


def check_user_modules(stored: Sequence[Any], where: object) -> None:
    """Compare the `modules` of a checkpoint with the registered blocks, before its model is built.

    Raises CheckpointError, with the file to pass, when a block is missing; warns when a file has changed since.
    """
    for entry in stored:
        if not isinstance(entry, Mapping):
            continue
        name, sha256 = f"{entry.get('name')!s:.80}", entry.get("sha256")
        for block in entry.get("blocks") or ():
            known = REGISTRY.get(str(block))
            if known is None:
                remedy = f"pass that file: modules={name}"
                if str(where).lower().endswith(PACK_SUFFIX):
                    remedy = f"it is in the pack and was not run: read it, then pass modules={where}"
                raise CheckpointError(
                    f"{where}: its model uses {block!s:.40}, a block of the user's file {name}", remedy
                )
            file = origin(known.cls)
            if file is None or file.sha256 != sha256:
                now = f"{name} has changed since" if file and file.name == name else f"it comes from {file} now"
                LOGGER.warning(f"{where}: {block!s:.40} was saved with {name}, sha256 {sha256!s:.12}...; {now}")
                break
