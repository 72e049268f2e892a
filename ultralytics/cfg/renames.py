"""Names that are not arguments here: of older versions, of other detectors, and what they stand for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ultralytics.cfg.schema import EXTRA_KEYS, KEYS, MODES
from ultralytics.utils.config.absent import NOT_ARGUMENTS, absence
from ultralytics.utils.errors import UnknownArgumentError
from ultralytics.utils.log import LOGGER

Rename: TypeAlias = Callable[[Any], dict[str, Any]]

_RENAMED: Mapping[str, Rename] = {
    "boxes": lambda v: {"show_boxes": v},
    "hide_labels": lambda v: {"show_labels": not v},
    "hide_conf": lambda v: {"show_conf": not v},
    "line_thickness": lambda v: {"line_width": v},
    "half": lambda v: {"quantize": 16 if v else None},
    "int8": lambda v: {"quantize": 8} if v else {},
}
"""Names of older versions, each with its meaning today."""

_DROPPED: Mapping[str, str] = {
    "label_smoothing": "; classification has smoothing=",
    "end2end": "; RT-DETR has no non-maximum suppression",
    **dict.fromkeys(
        (
            "save_hybrid", "crop_fraction", "keras", "image_weights", "min_memory", "v5loader", "fl_gamma",
            "upload_dataset", "augmentations",
        ),
        "",
    ),
}  # fmt: skip
"""Names of the interface that have no meaning here, and what to use instead."""

OLD_NAMES = frozenset(_RENAMED) | frozenset(_DROPPED)
"""Every name that `migrate` translates or drops."""

_SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("size", "img", "img_size", "image_size", "imagesize", "input_size", "resolution"), "imgsz"),
    **dict.fromkeys(("weights", "weight", "checkpoint", "ckpt"), "model"),
    **dict.fromkeys(
        ("conf_thres", "conf_thresh", "confidence", "threshold", "thresh", "score_thresh", "score_threshold",
         "score", "min_score", "prob", "min_confidence", "box_threshold"),
        "conf",
    ),
    **dict.fromkeys(("iou_thres", "iou_thresh", "iou_threshold", "nms_thresh", "nms_thres", "nms_threshold"), "iou"),
    **dict.fromkeys(("batch_size", "batchsize", "bs"), "batch"),
    **dict.fromkeys(("num_workers", "n_workers", "nw"), "workers"),
    **dict.fromkeys(("num_epochs", "max_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("lr", "learning_rate", "base_lr"), "lr0"),
    **dict.fromkeys(("adam", "adamw", "sgd", "optim", "opt"), "optimizer"),
    **dict.fromkeys(("noval", "nosave", "noplots"), ""),
    **dict.fromkeys(("gpu", "gpus", "cuda", "cpu", "num_gpus"), "device"),
    **dict.fromkeys(("hyp", "config"), "cfg"),
    **dict.fromkeys(("dataset", "data_yaml"), "data"),
    **dict.fromkeys(("fp16", "precision"), "quantize"),
    **dict.fromkeys(("view_img", "view"), "show"),
    **dict.fromkeys(("max_dets", "topk", "top_k"), "max_det"),
    **dict.fromkeys(("output", "output_dir", "outdir", "out_dir", "log_dir"), "project"),
    **dict.fromkeys(("input", "image", "images", "video", "img_path", "image_path"), "source"),
    **dict.fromkeys(("early_stop", "early_stopping", "early_stopping_patience"), "patience"),
    **dict.fromkeys(("mixed_precision", "use_amp", "bf16"), "amp"),
    **dict.fromkeys(("grad_clip", "max_norm", "clip_grad", "clip_grad_norm", "gradient_clip_val"), "clip_norm"),
    **dict.fromkeys(("nc", "num_classes", "names", "class_names"), "data"),
    **dict.fromkeys(("silent", "quiet"), "verbose"),
    "wd": "weight_decay",
    "linear_lr": "cos_lr",
    "dropout_rate": "dropout",
    "run_name": "name",
    "random_seed": "seed",
    "resume_from": "resume",
    "freeze_layers": "freeze",
    "filter_classes": "classes",
    "experiment": "name",
}  # fmt: skip
"""Argument names of other detectors; a name with `no` in front is the switch without it."""


def suggestions(name: str) -> list[str]:
    """The arguments that a name may mean: a known synonym, else those spelt like it, best first.

    >>> suggestions("img_size"), suggestions("noval"), suggestions("epoch")
    (['imgsz'], ['val'], ['epochs'])
    """
    lower = name.lower().replace("-", "_")
    if lower in _SYNONYMS:
        return [_SYNONYMS[lower] or lower.removeprefix("no")]
    return difflib.get_close_matches(lower, KEYS, n=3, cutoff=0.6)


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate names of older versions, and a model scale written as `scale=n`; each old name is warned about."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name == "label_smoothing" and values.get("task") == "classify":
            LOGGER.warning(f"{name!r} is deprecated; use smoothing={value}")
            result["smoothing"] = value
        elif name in _DROPPED:
            if value is not None:
                LOGGER.warning(f"{name!r} has no effect any more and is ignored{_DROPPED[name]}")
        elif name in _RENAMED:
            new = _RENAMED[name](value)
            LOGGER.warning(f"{name!r} is deprecated; {f'use {_shown(new)}' if new else 'leave it out'}")
            result.update(new)
        elif name == "scale" and isinstance(value, str):
            result["model_scale"] = value
        elif name == "task" and value in MODES:
            LOGGER.warning(f"task={value} is a mode, not a task, and is ignored")
        else:
            result[name] = value
    return _named_after_model(result)


def _named_after_model(values: dict[str, Any]) -> dict[str, Any]:
    """Put the stem of the model's file in the place of `name=model`."""
    if values.get("name") == "model" and values.get("model"):
        values["name"] = Path(str(values["model"])).stem
    return values


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())


def check_names(names: Iterable[str], origins: Mapping[str, str] | None = None) -> None:
    """Raise UnknownArgumentError for the first names that are not arguments, with the nearest that are."""
    unknown = [n for n in names if n not in KEYS and n not in EXTRA_KEYS]
    if not unknown:
        return
    lines = []
    for name in unknown[:3]:
        near = suggestions(str(name))
        meant = f"did you mean {' or '.join(near)}?" if near else "`yolo cfg` lists all arguments."
        hint = absence(str(name)) or NOT_ARGUMENTS.get(str(name)) or meant
        origin = (origins or {}).get(name, "")
        lines.append(f"there is no argument {name!r}{f' ({origin})' if origin else ''}; {hint}")
    raise UnknownArgumentError("\n".join(lines))
