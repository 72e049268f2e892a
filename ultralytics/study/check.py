"""Everything that can be checked before the first run: each variant is built, counted, and its cost estimated."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ultralytics.cfg.resolution import load_recipe
from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.data.build import fraction_of
from ultralytics.data.paths import list_images, pick_fraction
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.published import weights_path
from ultralytics.engine.training.console import choose_recipe, planned_batches
from ultralytics.models import RTDETR
from ultralytics.nn.build.insertion import insert_row, replace_row
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.families import find_family
from ultralytics.study.jobs import STUDY_DEFAULTS, deciding_arguments
from ultralytics.study.plan import StudyPlan, Variant
from ultralytics.study.statistics import POWER, Design
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.config.yaml_io import YAML, canonical
from ultralytics.utils.errors import ConfigError, ModelYAMLError, UserError
from ultralytics.utils.metrics.report import Table, Value
from ultralytics.utils.torch_utils import select_device

PROBE_BATCH, PROBE_OBJECTS = 2, 4
PROBE_STEPS, PROBE_SECONDS = 5, 5.0
"""Steps that are timed, and seconds after which no further one is."""
WEIGHT_COPIES = 5
"""Copies of the weights in a run folder: best.pt one, last.pt the network, its average and two moments of AdamW."""
PLOTS_MB = 4.0
USUAL_NOISE = 0.007
"""Deviation of AP50-95 between seeds that the announcement assumes; the report measures that of the study."""
VAL_COST = 1 / 3
"""Cost of a validated image as a multiple of a trained one: the forward pass without the backward pass."""


class Estimate(NamedTuple):
    """Cost of an arm: parameters, operations at its image size, hours of one run on one device, MB of its folder.

    `images` are those that train it.
    """

    arm: str
    params: int
    gflops: float
    hours: float
    megabytes: float
    images: int = 0


class Checked(NamedTuple):
    """The model YAML of each arm with its edits, and the estimates."""

    yamls: dict[str, dict[str, Any]]
    estimates: list[Estimate]


def check_plan(plan: StudyPlan) -> Checked:
    """Build every arm and estimate its cost.

    Raises:
        UserError: an arm cannot run, or is another one again; the message begins with file and line of the plan.
    """
    yamls: dict[str, dict[str, Any]] = {}
    estimates = []
    device, *_ = [select_device(d, verbose=False) for d in plan.devices or ("",)]
    timed: dict[str, float] = {}
    for variant in plan.arms:
        try:
            yamls[variant.name] = model_yaml(variant)
            estimates.append(_estimate(plan, variant, yamls[variant.name], device, timed))
        except UserError as e:
            text = str(e)
            raise type(e)(
                text if text.startswith(f"{plan.file}:") else _about(variant, f"cannot run: {text}")
            ) from None
    _refuse_equal_arms(plan, yamls, {e.arm: e.images for e in estimates})
    return Checked(yamls, estimates)


def _about(variant: Variant, problem: str) -> str:
    return f"{variant.place}: {variant.name} {problem}"


def _refuse_equal_arms(plan: StudyPlan, yamls: Mapping[str, Mapping[str, Any]], images: Mapping[str, int]) -> None:
    """Raise ConfigError for an arm that would repeat the runs of another one; `images` train each arm."""
    seen: dict[str, str] = {}
    for variant in plan.arms:
        recipe, own = settled_arguments(variant, images[variant.name])
        parts = [yamls[variant.name], recipe, own, variant.args["data"]]
        other = seen.setdefault(canonical(parts), variant.name)
        if other != variant.name:
            problem = f"is {other} again: model and arguments are equal, counted what recipe={recipe} sets"
            raise ConfigError(_about(variant, problem), "change it, or leave it out")


def settled_arguments(variant: Variant, images: int) -> tuple[str, dict[str, Any]]:
    """Return the recipe of an arm with so many training images, and the arguments in which it differs from that."""
    args = deciding_arguments(variant)
    recipe = str(args.pop("recipe", None) or "auto")
    if recipe == "auto":
        epochs = int(args.get("epochs", 100))
        steps = planned_batches(images, args.get("batch", 16), epochs)
        recipe, _ = choose_recipe(images, steps, isinstance(args.get("pretrained"), str), epochs)
    settled = {**{name: key.default for name, key in KEYS.items()}, **load_recipe(recipe)}
    decisive = keys_with(Trait.GIVEN)
    return recipe, {k: v for k, v in args.items() if k in decisive or v != settled.get(k)}


def model_yaml(variant: Variant) -> dict[str, Any]:
    """Return the model YAML of an arm: scale chosen, rows put in.

    Raises:
        ModelYAMLError: the model or an edited one cannot be read.
    """
    spec = load_model_yaml(variant.model, scale=variant.scale)
    data = {k: v for k, v in spec.data.items() if k != "yaml_file"}
    for edit in variant.edits:
        try:
            data = (insert_row if edit.action == "insert" else replace_row)(data, edit.layer, list(edit.row))
        except ModelYAMLError as e:
            raise ModelYAMLError(f"{edit.place}: {variant.name} cannot run: {edit.action}: {e}") from None
    return data


def write_models(yamls: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the model of each arm as `<arm>.yaml`."""
    for arm, data in yamls.items():
        YAML.save(folder / f"{arm}.yaml", data)


def _estimate(
    plan: StudyPlan, variant: Variant, yaml: Mapping[str, Any], device: torch.device, timed: dict[str, float]
) -> Estimate:
    """Build the network, count it, and time a step of a few images; `timed` holds the seconds of equal networks."""
    args = {**STUDY_DEFAULTS, **variant.args}
    table = check_det_dataset(args["data"], split=plan.split)
    if not table.get("train"):
        raise ConfigError(f"data={args['data']}: has no training split")
    for name in ("pretrained", "distill_model"):
        if isinstance(args.get(name), str):
            weights_path(args[name])
    model = RTDETR({**yaml, "nc": table["nc"]}, modules=args.get("modules"))
    family = find_family(model.model)
    if family is None:
        raise ConfigError("its last layer is not a detector's", "end the model with a head such as RTDETRDecoder")
    _refuse_idle(variant, plan.base, family.arguments)
    imgsz = args.get("imgsz", 640)
    side = check_imgsz(imgsz if isinstance(imgsz, int) else max(imgsz), stride=int(model.model.stride.max()), min_dim=1)
    totals = model.totals(int(cast("int", side)))
    images = len(pick_fraction(list_images(table["train"]), fraction_of(args.get("fraction", 1.0), "train")))
    held_out = len(list_images(table[plan.split]))
    key = canonical([yaml, side])
    seconds = timed.get(key) or timed.setdefault(key, step_seconds(model.model, int(cast("int", side)), device))
    epochs = int(args.get("epochs", 100))
    hours = seconds * epochs * (images + VAL_COST * held_out * bool(args.get("val", True))) / 3600
    megabytes = WEIGHT_COPIES * totals.params * 4 / 2**20 + PLOTS_MB
    return Estimate(variant.name, totals.params, totals.gflops, hours, megabytes, images)


def _refuse_idle(variant: Variant, base: Variant, acting: Trait) -> None:
    """Raise ConfigError for an argument of a variant that does nothing there: the variant would be the base again."""
    for name, value in variant.args.items():
        key = KEYS.get(name)
        if key is None or key.is_off(value) or value == base.args.get(name):
            continue
        why = key.without_effect("detect", "train") or (key.foreign if not key.traits & acting else "")
        if why:
            raise ConfigError(f"{name}={value} has no effect: {why}", "leave it out")


def step_seconds(network: nn.Module, imgsz: int, device: torch.device) -> float:
    """Return the seconds of forward and backward pass for one image on drawn targets, the least of several steps.

    The first step, which warms up, is left out; other programs on the machine can only make a step longer.
    """
    network = network.to(device).train()
    owner = torch.arange(PROBE_BATCH).repeat_interleave(PROBE_OBJECTS)
    batch: Any = {
        "img": torch.rand(PROBE_BATCH, 3, imgsz, imgsz),
        "cls": torch.zeros(len(owner), 1),
        "bboxes": torch.rand(len(owner), 4) * 0.4 + 0.3,
        "batch_idx": owner.float(),
    }
    batch = {k: v.to(device) for k, v in batch.items()}
    seconds = list[float]()
    while len(seconds) < 2 or (len(seconds) < PROBE_STEPS and sum(seconds) < PROBE_SECONDS):
        network.zero_grad(set_to_none=True)
        started = time.perf_counter()
        network(batch)[0].backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / PROBE_BATCH


def estimate_table(plan: StudyPlan, estimates: Sequence[Estimate]) -> Table:
    """Cost of each arm, and of the whole study in the last row."""
    seeds = len(plan.seeds)
    rows: list[tuple[Value, ...]] = [
        (e.arm, e.params / 1e6, e.gflops, e.hours, e.hours * seeds, e.megabytes * seeds / 1024) for e in estimates
    ]
    hours, disk = sum(e.hours for e in estimates) * seeds, sum(e.megabytes for e in estimates) * seeds / 1024
    devices = len(set(plan.devices)) or 1  # processes on one CPU divide its cores
    rows.append(("all", None, None, None, hours / devices, disk))
    columns = ("arm", "params, M", "GFLOPs", "hours a run", f"hours, {seeds} seeds", "disk, GB")
    return Table(f"Estimates on {devices} device(s)", columns, tuple(rows))


def resolution_text(plan: StudyPlan) -> str:
    """Return what the design can find out, at a noise that is usual for AP50-95."""
    seeds = len(plan.seeds)
    found = Design(len(plan.variants), plan.variance == "pooled").least(math.sqrt(2) * USUAL_NOISE, seeds)
    if found is None:
        return f"{plan.file}: with one seed nothing is tested, and no variant is called better; give at least 3"
    return (
        f"If AP varies by {USUAL_NOISE:g} between seeds, {seeds} seeds show a difference of {found:.3f} with a "
        f"probability of {POWER:g}; smaller ones will mostly be within noise."
    )
