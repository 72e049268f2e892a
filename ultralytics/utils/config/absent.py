"""Names of the `ultralytics` interface that this package does not have, and what does their work here.

A script that imports one gets this line, in place of Python's bare "cannot import name".
"""

from __future__ import annotations

from collections.abc import Mapping

ABSENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "ultralytics": {
        **dict.fromkeys(("YOLOWorld", "YOLOE"), "use YOLO or RTDETR instead; open vocabularies are not available here"),
        **dict.fromkeys(
            ("SAM", "FastSAM", "NAS"), "use the upstream package instead; such models are not available here"
        ),
    },
    "ultralytics.engine.exporter": {
        "Exporter": "use model.export(format=...) instead",
        "export_formats": "use `yolo help export` instead, which lists the formats",
    },
    "ultralytics.data.converter": dict.fromkeys(
        ("convert_coco", "coco91_to_coco80_class", "convert_dota_to_yolo_obb", "convert_segment_masks_to_yolo_seg"),
        "use ultralytics.convert or `yolo convert` instead",
    ),
    "ultralytics.utils.torch_utils": {
        "strip_optimizer": "use model.save(path) instead; weights of a finished run are stripped",
        "torch_distributed_zero_first": "use torch.distributed.barrier instead",
    },
    "ultralytics.nn.tasks": dict.fromkeys(
        ("SegmentationModel", "PoseModel", "OBBModel", "WorldModel", "YOLOEModel", "YOLOESegModel", "Ensemble"),
        "use DetectionModel instead; networks of other tasks are not available here",
    ),
}
"""What to use instead, by module and name."""


def absent(module: str, name: str) -> ImportError | AttributeError:
    """Return the error for a name that a module does not have.

    For a name of the interface it is an ImportError: `from ... import` replaces the text of an AttributeError.
    """
    text = ABSENT_NAMES.get(module, {}).get(name)
    if text is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return ImportError(f"{name}: {text}", name=module)
