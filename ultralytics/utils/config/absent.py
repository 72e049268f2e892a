"""Names of the `ultralytics` interface that this package does not have, and what does their work here.

A script that imports one gets this line, in place of Python's bare "cannot import name".
"""

from __future__ import annotations

from collections.abc import Mapping

_OTHER_TASK = "is not available here: of the interface's networks use RTDETRDetectionModel instead"

ABSENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "ultralytics": {
        **dict.fromkeys(("YOLOWorld", "YOLOE"), "is not available here: use YOLO or RTDETR instead"),
        **dict.fromkeys(("SAM", "FastSAM", "NAS"), "is a model of another task: use the upstream package instead"),
    },
    "ultralytics.engine.exporter": {
        "Exporter": "is not available here: use RTDETR(weights).export(format=...) instead",
        "export_formats": "is not available here: use `yolo help export` instead, which lists the formats",
    },
    "ultralytics.data.converter": dict.fromkeys(
        ("convert_coco", "coco91_to_coco80_class", "convert_dota_to_yolo_obb", "convert_segment_masks_to_yolo_seg"),
        "is not available here: use ultralytics.convert(data, to=...) or `yolo convert` instead",
    ),
    "ultralytics.utils.torch_utils": {
        "strip_optimizer": "is not needed here: best.pt and last.pt of a finished run are stripped; use "
        "RTDETR(weights).save(path) instead to write a file without the state of training",
        "torch_distributed_zero_first": "is not available here: use torch.distributed.barrier instead",
    },
    "ultralytics.nn.tasks": dict.fromkeys(
        ("SegmentationModel", "PoseModel", "OBBModel", "WorldModel", "YOLOEModel", "YOLOESegModel", "Ensemble"),
        _OTHER_TASK,
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
    return ImportError(f"{name} {text}", name=module)
