"""What the `ultralytics` interface has and this package has not, and what does its work here.

One table of features serves the command line, `Model`, arguments and imports; a script that imports a name gets its
line in place of Python's bare "cannot import name".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

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

_UPSTREAM_MODELS = f"{_A_PART}; use the upstream package for such models"
_OTHER_TEXTS = "open vocabularies are not part of this package; use YOLO or RTDETR"

ABSENT_MODULES: Mapping[str, str] = {
    "ultralytics.models.yolo.segment": f"{ABSENT_TASKS['segment']} is not part of this package",
    "ultralytics.models.yolo.pose": f"{ABSENT_TASKS['pose']} is not part of this package",
    "ultralytics.models.yolo.obb": f"{ABSENT_TASKS['obb']} is not part of this package",
    "ultralytics.models.yolo.classify": f"{_A_PART}; classification is in ultralytics.models.shvit",
    "ultralytics.models.yolo.depth": f"{ABSENT_TASKS['depth']} is not part of this package",
    "ultralytics.models.yolo.semantic": f"{ABSENT_TASKS['semantic']} is not part of this package",
    **dict.fromkeys(("ultralytics.models.yolo.world", "ultralytics.models.yolo.yoloe"), _OTHER_TEXTS),
    "ultralytics.nn.text_model": _OTHER_TEXTS,
    "ultralytics.nn.distill_model": f"{_A_PART}; train(distill_model=...) of a classifier learns from a teacher",
    "ultralytics.models.sam": _UPSTREAM_MODELS,
    "ultralytics.models.fastsam": _UPSTREAM_MODELS,
    "ultralytics.models.nas": _UPSTREAM_MODELS,
    "ultralytics.trackers": _TRACKERS,
    "ultralytics.solutions": ABSENT_FEATURES["solutions"],
    "ultralytics.hub": _SERVICE,
    "ultralytics.utils.tuner": f"{_A_PART}; use model.tune(...) or `yolo tune`",
    "ultralytics.utils.autobatch": f"{_A_PART}; train(batch=-1) measures the batch that fits into memory",
    "ultralytics.utils.benchmarks": f"{_A_PART}; use model.benchmark() or `yolo benchmark`",
    "ultralytics.utils.export": f"{_A_PART}; use model.export(format=...) or `yolo export`",
    "ultralytics.utils.triton": "clients of an inference server are not part of this package; export(format='onnx') "
    "writes what such a server loads",
    "ultralytics.utils.autodevice": f"{_A_PART}; device=0 chooses a GPU",
    "ultralytics.data.split_dota": f"{ABSENT_TASKS['obb']} is not part of this package",
    "ultralytics.data.explorer": f"{_A_PART}; model.embed(...) gives the vectors of images",
    "ultralytics.data.annotator": f"{_A_PART}; predict(save_txt=True) writes what a model finds",
}
"""Modules of which no name is here, and what to use instead."""

_OPEN_VOCABULARY = "use YOLO or RTDETR instead; open vocabularies are not available here"
_OTHER_MODELS = "use the upstream package instead; such models are not available here"
_MODELS = {
    **dict.fromkeys(("YOLOWorld", "YOLOE"), _OPEN_VOCABULARY),
    **dict.fromkeys(("SAM", "FastSAM", "NAS"), _OTHER_MODELS),
}

_MASKS = "use the upstream package instead; masks and rotated boxes are not available here"
_TASK_TABLE = "use task=detect instead; there is one table of keys, ultralytics.cfg.schema.KEYS"
_OTHER_HEADS = "use Detect or RTDETRDecoder instead; heads of other tasks are not available here"

ABSENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "ultralytics.cfg": {
        **dict.fromkeys(("TASK2DATA", "TASK2MODEL", "TASK2METRIC"), _TASK_TABLE),
        "handle_yolo_hub": "use files instead; a hosted service is not part of this package",
    },
    "ultralytics.data.build": {
        "InfiniteDataLoader": "use build_dataloader or torch.utils.data.DataLoader instead",
    },
    "ultralytics.data.augment": {
        "Albumentations": "use a transform of your own in build_transforms instead (docs/extending.md)",
        "classify_augmentations": "use ultralytics.data.classify instead",
        "classify_transforms": "use ultralytics.data.classify instead",
    },
    "ultralytics.data.loaders": {
        "get_best_youtube_url": "use a video file or a stream's address instead",
    },
    "ultralytics.data.utils": {
        "HUBDatasetStats": f"use ultralytics.doctor or `yolo doctor` instead; {_SERVICE}",
        **dict.fromkeys(("polygon2mask", "polygons2masks", "polygons2masks_overlap"), _MASKS),
    },
    "ultralytics.nn.autobackend": {
        "check_class_names": "use ultralytics.data.utils.check_det_dataset instead, which checks `names`",
        "default_class_names": "use check_det_dataset(data)['names'] instead",
    },
    "ultralytics.nn.modules": dict.fromkeys(
        ("Segment", "Pose", "OBB", "WorldDetect", "YOLOEDetect", "YOLOESegment", "SemanticSegment"),
        _OTHER_HEADS,
    ),
    "ultralytics.utils": {
        **dict.fromkeys(("get_git_branch", "get_git_dir", "get_git_origin_url"), "use the program git instead"),
    },
    "ultralytics.utils.dist": {
        **dict.fromkeys(
            ("find_free_network_port", "generate_ddp_command", "generate_ddp_file", "ddp_cleanup"),
            "use torchrun or device=0,1 instead",
        ),
    },
    "ultralytics.utils.patches": {"torch_load": "use ultralytics.nn.tasks.load_checkpoint instead, which runs no code"},
    "ultralytics.utils.plotting": {
        "feature_visualization": "use `yolo heatmap` or model.heatmap instead",
        "output_to_target": "use Results.plot() instead",
        "plt_color_scatter": "use matplotlib instead",
    },
    "ultralytics": {**_MODELS, "Explorer": "use model.embed(...) instead, which gives the vectors of images"},
    "ultralytics.models": _MODELS,
    "ultralytics.engine.tuner": {"Tuner": "use model.tune(...) or `yolo tune` instead, which are made of functions"},
    "ultralytics.engine.exporter": {
        "Exporter": "use model.export(format=...) instead",
    },
    "ultralytics.data.converter": dict.fromkeys(
        (
            "convert_coco",
            "coco91_to_coco80_class",
            "convert_dota_to_yolo_obb",
            "convert_segment_masks_to_yolo_seg",
            "yolo_bbox2segment",
            "merge_multi_segment",
            "create_synthetic_coco_dataset",
        ),
        "use ultralytics.convert or `yolo convert` instead",
    ),
    "ultralytics.utils.checks": {
        "check_latest_pypi_version": "use `pip index versions` instead; the network is not asked here",
        "check_pip_update_available": "use `pip list --outdated` instead; the network is not asked here",
    },
    "ultralytics.utils.ops": dict.fromkeys(
        """crop_mask process_mask process_mask_native scale_image scale_masks masks2segments nms_rotated xywhr2xyxyxyxy
        xyxyxyxy2xywhr regularize_rboxes""".split(),
        _MASKS,
    ),
    "ultralytics.nn.tasks": {"Ensemble": "use a list of models instead; their boxes are merged by your own rule"},
}
"""What to use instead, by module and name."""


def absence(name: str) -> str:
    """Why a command, method or argument of the interface is not there; empty for any other name."""
    return ABSENT_FEATURES.get(name.lower(), "")


_ASKED_OF_ALL = ("_", "pytest")
"""How names begin that Python and pytest look up in every module; an ImportError would stop them."""


def absent(module: str, name: str) -> ImportError | AttributeError:
    """Return the error for a name that a module does not have.

    For a name of the interface it is an ImportError: `from ... import` replaces the text of an AttributeError. Python
    asks a module for its `__path__` before it imports what lies below it.
    """
    if name == "__path__" and module in ABSENT_MODULES:
        return ModuleNotFoundError(f"{module}: {ABSENT_MODULES[module]}", name=module)
    text = ABSENT_NAMES.get(module, {}).get(name)
    if text is None and module in ABSENT_MODULES and not name.startswith(_ASKED_OF_ALL):
        text = f"{module}: {ABSENT_MODULES[module]}"
    if text is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return ImportError(f"{name}: {text}", name=module)


def absent_names(module: str, elsewhere: Mapping[str, tuple[str, str]] | None = None) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module: it raises the error of `absent` for names that are not there.

    `elsewhere` holds names that scripts import from the module, with their modules and their names there.
    """
    places = elsewhere or {}

    def look_up(name: str) -> Any:
        if name not in places:
            raise absent(module, name)
        owner, attribute = places[name]
        return getattr(importlib.import_module(owner), attribute)

    return look_up
