"""What the `ultralytics` interface has and this package has not, and what does its work here.

One table of features serves the command line, `Model`, arguments and imports; a script that imports a name gets its
line in place of Python's bare "cannot import name".
"""

from __future__ import annotations

from collections.abc import Mapping

_TRACKERS = "trackers are not part of this package; model.track() uses those of the package `trackers`"
_A_PART = "this module is not part of this package"
_SERVICE = "a hosted service is not part of this package: files are local"

ABSENT_FEATURES: Mapping[str, str] = {
    "persist": "use model.track(source, persist=True), where it is an argument of the method",
    **dict.fromkeys(("hub", "login", "logout"), _SERVICE),
    "solutions": "solutions are not part of this package; predict(stream=True) gives the boxes that they count",
    "profile": "use benchmark() for exported forms, train(profile=True) for training steps",
}
"""Commands, methods and arguments, and what to use instead."""

NOT_ARGUMENTS: Mapping[str, str] = {"tune": "'tune' is a command: yolo tune, or model.tune(...)"}
"""Names of arguments of other detectors that are something else here."""

ABSENT_TASKS: Mapping[str, str] = {
    "segment": "instance segmentation",
    "pose": "pose estimation",
    "obb": "detection of rotated boxes",
    "depth": "depth estimation",
    "semantic": "semantic segmentation",
}
"""Tasks, and what they are."""

ABSENT_MODULES: Mapping[str, str] = {
    "ultralytics.trackers": _TRACKERS,
    "ultralytics.solutions": ABSENT_FEATURES["solutions"],
    "ultralytics.hub": _SERVICE,
    "ultralytics.utils.tuner": f"{_A_PART}; use model.tune(...) or `yolo tune`",
    "ultralytics.utils.autobatch": f"{_A_PART}; train(batch=-1) measures the batch that fits into memory",
    "ultralytics.utils.benchmarks": f"{_A_PART}; use model.benchmark() or `yolo benchmark`",
    "ultralytics.data.annotator": f"{_A_PART}; predict(save_txt=True) writes what a model finds",
}
"""Modules of which no name is here, and what to use instead."""

_OPEN_VOCABULARY = "use YOLO or RTDETR instead; open vocabularies are not available here"
_OTHER_MODELS = "use the upstream package instead; such models are not available here"
_MODELS = {
    **dict.fromkeys(("YOLOWorld", "YOLOE"), _OPEN_VOCABULARY),
    **dict.fromkeys(("SAM", "FastSAM", "NAS"), _OTHER_MODELS),
}

ABSENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "ultralytics": _MODELS,
    "ultralytics.models": _MODELS,
    "ultralytics.engine.tuner": {"Tuner": "use model.tune(...) or `yolo tune` instead, which are made of functions"},
    "ultralytics.engine.exporter": {
        "Exporter": "use model.export(format=...) instead",
    },
    "ultralytics.data.converter": dict.fromkeys(
        ("convert_coco", "coco91_to_coco80_class", "convert_dota_to_yolo_obb", "convert_segment_masks_to_yolo_seg"),
        "use ultralytics.convert or `yolo convert` instead",
    ),
    "ultralytics.utils.checks": {
        "check_latest_pypi_version": "use `pip index versions` instead; the network is not asked here",
        "check_pip_update_available": "use `pip list --outdated` instead; the network is not asked here",
    },
    "ultralytics.data.utils": {"HUBDatasetStats": f"use ultralytics.doctor or `yolo doctor` instead; {_SERVICE}"},
    "ultralytics.utils.ops": {
        **dict.fromkeys(
            "crop_mask process_mask process_mask_native scale_image scale_masks masks2segments".split(),
            "use boxes instead; masks are not part of this package",
        ),
        **dict.fromkeys(
            "xywhr2xyxyxyxy xyxyxyxy2xywhr regularize_rboxes".split(),
            "use upright boxes instead; rotated ones are not part of this package",
        ),
    },
    "ultralytics.nn.tasks": {"Ensemble": "use a list of models instead; their boxes are merged by your own rule"},
}
"""What to use instead, by module and name."""


def absence(name: str) -> str:
    """Why a command, method or argument of the interface is not there; empty for any other name."""
    return ABSENT_FEATURES.get(name.lower(), "")


def absent(module: str, name: str) -> ImportError | AttributeError:
    """Return the error for a name that a module does not have.

    For a name of the interface it is an ImportError: `from ... import` replaces the text of an AttributeError.
    """
    text = ABSENT_NAMES.get(module, {}).get(name)
    if text is None and module in ABSENT_MODULES and not name.startswith("_"):
        text = f"{module}: {ABSENT_MODULES[module]}"
    if text is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return ImportError(f"{name}: {text}", name=module)
