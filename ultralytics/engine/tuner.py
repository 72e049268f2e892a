"""The search for arguments as a method of a model; the work is done by `ultralytics.study.tuning`, a higher layer."""

from __future__ import annotations

import importlib
from typing import Any

from ultralytics.engine.model import Model
from ultralytics.utils.config.absent import absent_names


def search_arguments(model: Model, use_ray: bool = False, iterations: int = 10, **kwargs: Any) -> Any:
    """Search for arguments of training with Optuna; see `ultralytics.study.tuning.run_tuning.tune_model`.

    `iterations` is the number of trials, `space` what they vary, `processes` how many run at once; `use_ray` stands for
    `engine="ray"`. Further arguments are those of `train`. Returns the `SearchResult`.
    """
    tuning = importlib.import_module("ultralytics.study.tuning.run_tuning")
    engine = {"engine": "ray"} if use_ray else {}
    return tuning.tune_model(model, **{**kwargs, **engine, "iterations": iterations})


__getattr__ = absent_names(__name__)
