"""A failed training step in a file, and running it again: `yolo replay runs/detect/train/replay.pt`.

The file holds tensors and plain values only: the network before the step, the batch as the network saw it, what the
random numbers and the precision depend on, and what was found at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.engine.training.nan_trace import ADVICE, NanFinding, Step, bad_labels, shown_images, trace
from ultralytics.nn.build.user_blocks import check_user_modules, pack_user_modules
from ultralytics.nn.checkpoint.format import pack_model, read_plain, save_tensors, to_plain
from ultralytics.nn.checkpoint.validate import Checks, check_fields, check_fields_of, is_list_of, is_number, is_of
from ultralytics.nn.tasks import unpack_model
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import CheckpointError, NotFoundError
from ultralytics.utils.files import user_path
from ultralytics.utils.torch_utils import AMP_DTYPES, amp_dtype, select_device
from ultralytics.utils.user_modules import Files, load_user_modules

FORMAT = "rtdetr-shsa-replay"
STEP_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What a network raises for a batch that does not fit it."""


def precision_name(dtype: torch.dtype | None) -> str:
    """The value of `amp` that stands for a data type."""
    return next(name for name, known in AMP_DTYPES.items() if known == dtype)


def examine(model: Any, batch: Mapping[str, Any], step: Step) -> NanFinding:
    """Find what is wrong with a step: its labels, else what running it again shows."""
    return bad_labels(batch, model.nc) or trace(model, batch, step)


def write_replay(path: Path, model: Any, batch: Mapping[str, Any], step: Step, finding: NanFinding) -> None:
    """Write the file, whole or not at all."""
    record = {
        "format": FORMAT,
        "format_version": 1,
        "model": pack_model(model),
        "modules": pack_user_modules(model),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "resting_norms": [name for name, norm in _norms(model) if not norm.training],
        "batch": {k: v.contiguous() if isinstance(v, torch.Tensor) else v for k, v in to_plain(batch).items()},
        "step": {**vars(step), "dtype": precision_name(step.dtype)},
        "finding": finding.as_dict(),
    }
    save_tensors(path, record)


STEP: Checks = {
    **dict.fromkeys(("seed", "rank", "number"), lambda value: is_number(value, -1, 2**62) and isinstance(value, int)),
    "dtype": lambda value: value in tuple(AMP_DTYPES),
    "scale": lambda value: is_number(value, 0, 1e12),
    "partial": is_of(bool),
}
FINDING: Checks = {
    "cause": lambda value: value in tuple(ADVICE),
    "what": is_of(str),
    **dict.fromkeys(("terms", "images"), is_list_of(is_of(str))),
}
RECORD: Checks = {
    "model": is_of(dict),
    "modules": is_of(list),
    **dict.fromkeys(("frozen", "resting_norms"), is_list_of(is_of(str))),
}


def read_replay(path: str | Path) -> dict[str, Any]:
    """Read the file as data, and check its fields; raises NotFoundError or CheckpointError."""
    path = user_path(path)
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist", "a run that fails writes replay.pt into its folder")
    try:
        record = read_plain(path)
    except CheckpointError as e:
        raise CheckpointError(f"{path} cannot be read as a replay", *str(e).splitlines()[:2]) from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a replay of a training step", "give the replay.pt of a run that failed")
    try:
        return _checked(record)
    except CheckpointError as e:
        raise CheckpointError(f"{path} is damaged: {e}") from None


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its network made safe to build. Raises CheckpointError for a field that is wrong."""
    check_fields_of("replay", record, RECORD, tuple(RECORD))
    check_fields_of("step", record.get("step"), STEP, ("seed", "rank", "number", "dtype", "scale"))
    check_fields_of("finding", record.get("finding"), FINDING, tuple(FINDING))
    _check_batch(record.get("batch"))
    return {**record, **check_fields({"model": record["model"], "modules": record["modules"]})}


def _check_batch(batch: object) -> None:
    """Demand images (B, C, H, W), the rows of T objects that belong to them, and a name for each image."""
    tensors = dict.fromkeys(("img", "cls"), is_of(torch.Tensor))
    check_fields_of("batch", batch, {**tensors, "im_file": is_list_of(is_of(str))}, ("img", "cls", "im_file"))
    rows: Any = batch
    images, objects = rows["img"], len(rows["cls"]) if rows["cls"].dim() else -1
    if images.dim() != 4 or not images.numel() or len(rows["im_file"]) != len(images):
        raise CheckpointError(f"the batch has images of shape {list(images.shape)} and {len(rows['im_file'])} names")
    for key in ("bboxes", "batch_idx"):
        value = rows.get(key, rows["cls"])
        if not isinstance(value, torch.Tensor) or not value.dim() or len(value) != objects:
            raise CheckpointError(f"the batch's {key} does not belong to {objects} objects")
    owners = rows.get("batch_idx", torch.zeros(0))
    if owners.numel() and not bool(((owners >= 0) & (owners < len(images))).all()):
        raise CheckpointError("the batch's batch_idx names images that it does not have")


def replay(
    path: str | Path, device: str | int = "", amp: bool | str | None = None, modules: Files | None = None
) -> NanFinding:
    """Run a failed step again and log whether it fails in the same place; return what was found.

    Args:
        path: The `replay.pt` of a run.
        device: Where to run it.
        amp: Another precision than the run's, to see whether it helps.
        modules: Files with the user's own blocks, if the network has any.
    """
    record = read_replay(path)
    load_user_modules(modules)
    check_user_modules(record["modules"], Path(path))
    target = select_device(device, verbose=False)
    before = NanFinding.from_record(record["finding"])
    step_record = record["step"]
    dtype = AMP_DTYPES[step_record["dtype"]] if amp is None else amp_dtype(amp, target)
    scale = step_record["scale"] if amp is None else 1.0
    batch = {k: v.to(target) if isinstance(v, torch.Tensor) else v for k, v in record["batch"].items()}
    partial = bool(step_record.get("partial", batch.get("partial", False)))  # older files have it in the batch
    step = Step(step_record["seed"], step_record["rank"], step_record["number"], dtype, scale, partial)
    try:
        found = examine(_network(record, target), batch, step)
    except STEP_ERRORS as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise CheckpointError(f"{path}: the step in it cannot be run: {reason:.200}") from e
    same = "reproduced" if found == before else "NOT reproduced"
    LOGGER.info(f"{path}: step {step.number + 1}, {precision_name(dtype)}, {len(batch['img'])} images on {target}")
    for title, finding in (("then", before), ("now", found)):
        terms = f"; loss terms: {', '.join(finding.terms)}" if finding.terms else ""
        LOGGER.info(f"  {title:<5} [{finding.cause}] {finding.what}{terms}")
    LOGGER.info(f"  images: {shown_images(found.images)}\n{same}; {ADVICE[found.cause]}")
    return found


def _network(record: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Build the network of a replay as it was: in training mode, with the same layers frozen."""
    model: nn.Module = unpack_model(record["model"]).to(device).train()
    model.args = record["model"]["args"]
    frozen = set(record["frozen"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen and parameter.is_floating_point())
    for name, norm in _norms(model):
        norm.train(name not in record["resting_norms"])
    return model


def _norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
