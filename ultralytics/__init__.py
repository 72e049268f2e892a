"""RT-DETR with SHSA, in a package whose public paths follow the `ultralytics` interface.

Independent implementation; not affiliated with Ultralytics. Importing it has no effects and does not import torch: the
names below are looked up when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ultralytics.data.convert import convert
    from ultralytics.data.doctor.run import doctor
    from ultralytics.data.tile_set import tile
    from ultralytics.engine.compare import compare
    from ultralytics.engine.export.hub_push import push_folder as push
    from ultralytics.engine.published import fetch_weights as fetch
    from ultralytics.engine.receptive_field import erf
    from ultralytics.engine.schemas import json_schema as schema
    from ultralytics.engine.show import show
    from ultralytics.engine.training.replay import replay
    from ultralytics.models import RTDETR, YOLO, SHViTClassifier
    from ultralytics.models.rtdetr.heatmap import heatmap
    from ultralytics.nn.build.insertion import insert_into_file as insert
    from ultralytics.nn.profile.block_facts import describe_blocks as blocks
    from ultralytics.study.pages.run_report import report
    from ultralytics.study.run_groups import compare_runs, curves
    from ultralytics.study.run_study import ablate
    from ultralytics.utils import ASSETS
    from ultralytics.utils.checks import print_checks as checks
    from ultralytics.utils.config.settings import SETTINGS as settings
    from ultralytics.utils.downloads import download

__version__ = "0.1.0"

__all__ = [
    "ASSETS",
    "RTDETR",
    "YOLO",
    "SHViTClassifier",
    "__version__",
    "ablate",
    "blocks",
    "checks",
    "compare",
    "compare_runs",
    "convert",
    "curves",
    "doctor",
    "download",
    "erf",
    "fetch",
    "heatmap",
    "insert",
    "push",
    "replay",
    "report",
    "schema",
    "settings",
    "show",
    "tile",
]

_WHERE = {
    "RTDETR": ("ultralytics.models", "RTDETR"),
    "SHViTClassifier": ("ultralytics.models", "SHViTClassifier"),
    "YOLO": ("ultralytics.models", "YOLO"),
    "ASSETS": ("ultralytics.utils", "ASSETS"),
    "ablate": ("ultralytics.study.run_study", "ablate"),
    "blocks": ("ultralytics.nn.profile.block_facts", "describe_blocks"),
    "checks": ("ultralytics.utils.checks", "print_checks"),
    "compare": ("ultralytics.engine.compare", "compare"),
    "compare_runs": ("ultralytics.study.run_groups", "compare_runs"),
    "curves": ("ultralytics.study.run_groups", "curves"),
    "convert": ("ultralytics.data.convert", "convert"),
    "doctor": ("ultralytics.data.doctor.run", "doctor"),
    "download": ("ultralytics.utils.downloads", "download"),
    "erf": ("ultralytics.engine.receptive_field", "erf"),
    "fetch": ("ultralytics.engine.published", "fetch_weights"),
    "heatmap": ("ultralytics.models.rtdetr.heatmap", "heatmap"),
    "insert": ("ultralytics.nn.build.insertion", "insert_into_file"),
    "push": ("ultralytics.engine.export.hub_push", "push_folder"),
    "report": ("ultralytics.study.pages.run_report", "report"),
    "replay": ("ultralytics.engine.training.replay", "replay"),
    "schema": ("ultralytics.engine.schemas", "json_schema"),
    "settings": ("ultralytics.utils.config.settings", "SETTINGS"),
    "show": ("ultralytics.engine.show", "show"),
    "tile": ("ultralytics.data.tile_set", "tile"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise importlib.import_module("ultralytics.utils.config.absent").absent(__name__, name)
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
