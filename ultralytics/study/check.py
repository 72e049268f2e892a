"""Everything that can be checked before the first run: each variant is built, counted, and its cost estimated."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ultralytics.data.build import fraction_of
from ultralytics.data.paths import list_images, pick_fraction
from ultralytics.data.utils import check_det_dataset
from ultralytics.models import RTDETR
from ultralytics.nn.build.insertion import insert_row
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.families import find_family
from ultralytics.study.jobs import STUDY_DEFAULTS
from ultralytics.study.plan import Edit, StudyPlan, Variant
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, ModelYAMLError, UserError
from ultralytics.utils.metrics.report import Table, Value
from ultralytics.utils.torch_utils import select_device

PROBE_BATCH, PROBE_OBJECTS = 2, 4
WEIGHT_COPIES = 5
"""Copies of the weights in a run folder: best.pt one, last.pt the network, its average and two moments of AdamW."""
PLOTS_MB = 4.0
VAL_COST = 1 / 3
"""Cost of a validated image as a multiple of a trained one: the forward pass without the backward pass."""


class Estimate(NamedTuple):
    """Cost of an arm: parameters, operations at its image size, hours of one run on one device, MB of its folder."""

    arm: str
    params: int
    gflops: float
    hours: float
    megabytes: float


class Checked(NamedTuple):
    """The model YAML of each arm with its edits, and the estimates."""

    yamls: dict[str, dict[str, Any]]
    estimates: list[Estimate]


def check_plan(plan: StudyPlan) -> Checked:
    """Build every arm and estimate its cost.

    Raises:
        UserError: an arm cannot run; the message begins with file and line of the plan.
    """
    yamls: dict[str, dict[str, Any]] = {}
    estimates = []
    device = _device(plan)
    for variant in plan.arms:
        try:
            yamls[variant.name] = model_yaml(variant)
            estimates.append(_estimate(plan, variant, yamls[variant.name], device))
        except UserError as e:
            raise type(e)(f"{variant.place}: {variant.name} cannot run: {e}") from None
    return Checked(yamls, estimates)


def model_yaml(variant: Variant) -> dict[str, Any]:
    """Return the model YAML of an arm: scale chosen, rows put in.

    Raises:
        ModelYAMLError: the model or an edited one cannot be read.
    """
    spec = load_model_yaml(variant.model, scale=variant.scale)
    data = {k: v for k, v in spec.data.items() if k != "yaml_file"}
    for edit in variant.edits:
        try:
            data = dict(
                insert_row(data, edit.layer, list(edit.row)) if edit.action == "insert" else replace_row(data, edit)
            )
        except ModelYAMLError as e:
            raise ModelYAMLError(f"{edit.place}: {edit.action}: {e}") from None
    return data


def replace_row(data: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """Return a model YAML with the module and arguments of one row replaced; `from` and repeats stay.

    >>> edit = Edit("replace", 0, ("SHSA", []), "")
    >>> model = {"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}
    >>> replace_row(model, edit)["backbone"]
    [[-1, 1, 'SHSA', []]]
    """
    rows = [(part, i) for part in ("backbone", "head") for i in range(len(data[part]))]
    if not isinstance(edit.layer, int) or not 0 <= edit.layer < len(rows):
        raise ModelYAMLError(f"there is no layer {edit.layer!r}; the rows are 0 to {len(rows) - 1}")
    if len(edit.row) != 2 or not isinstance(edit.row[1], list):
        raise ModelYAMLError(f"row: {list(edit.row)} is not [module, args], such as [SHSA, []]")
    part, i = rows[edit.layer]
    source, repeats = data[part][i][:2]
    new = [source, repeats, *edit.row]
    return {**data, part: [new if k == i else row for k, row in enumerate(data[part])]}


def write_models(yamls: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the model of each arm as `<arm>.yaml`."""
    for arm, data in yamls.items():
        YAML.save(folder / f"{arm}.yaml", data)


def _device(plan: StudyPlan) -> torch.device:
    """The first device of the plan; a cluster's are not known, so the CPU stands in."""
    return select_device(plan.devices[0] if plan.devices else "", verbose=False)


def _estimate(plan: StudyPlan, variant: Variant, yaml: Mapping[str, Any], device: torch.device) -> Estimate:
    """Build the network, count it, and time a step of a few images."""
    args = {**STUDY_DEFAULTS, **variant.args}
    table = check_det_dataset(args["data"], split=plan.split)
    if not table.get("train"):
        raise ConfigError(f"data={args['data']}: has no training split")
    model = RTDETR({**yaml, "nc": table["nc"]}, modules=args.get("modules"))
    if find_family(model.model) is None:
        raise ConfigError("its last layer is not a detector's", "end the model with a head such as RTDETRDecoder")
    imgsz = args.get("imgsz", 640)
    side = check_imgsz(imgsz if isinstance(imgsz, int) else max(imgsz), stride=int(model.model.stride.max()), min_dim=1)
    totals = model.totals(int(cast("int", side)))
    images = len(pick_fraction(list_images(table["train"]), fraction_of(args.get("fraction", 1.0), "train")))
    held_out = len(list_images(table[plan.split]))
    seconds = step_seconds(model.model, int(cast("int", side)), device)
    epochs = int(args.get("epochs", 100))
    hours = seconds * epochs * (images + VAL_COST * held_out * bool(args.get("val", True))) / 3600
    return Estimate(
        variant.name, totals.params, totals.gflops, hours, WEIGHT_COPIES * totals.params * 4 / 2**20 + PLOTS_MB
    )


def step_seconds(network: nn.Module, imgsz: int, device: torch.device) -> float:
    """Return the seconds of forward and backward pass for one image, from the second of two steps on drawn targets."""
    network = network.to(device).train()
    owner = torch.arange(PROBE_BATCH).repeat_interleave(PROBE_OBJECTS)
    batch: Any = {
        "img": torch.rand(PROBE_BATCH, 3, imgsz, imgsz),
        "cls": torch.zeros(len(owner), 1),
        "bboxes": torch.rand(len(owner), 4) * 0.4 + 0.3,
        "batch_idx": owner.float(),
    }
    batch = {k: v.to(device) for k, v in batch.items()}
    seconds = 0.0
    for _ in range(2):
        network.zero_grad(set_to_none=True)
        started = time.perf_counter()
        network(batch)[0].backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return seconds / PROBE_BATCH


def estimate_table(plan: StudyPlan, estimates: Sequence[Estimate]) -> Table:
    """Cost of each arm, and of the whole study in the last row."""
    seeds = len(plan.seeds)
    rows: list[tuple[Value, ...]] = [
        (e.arm, e.params / 1e6, e.gflops, e.hours, e.hours * seeds, e.megabytes * seeds / 1024) for e in estimates
    ]
    hours, disk = sum(e.hours for e in estimates) * seeds, sum(e.megabytes for e in estimates) * seeds / 1024
    rows.append(("all", None, None, None, hours / max(len(plan.devices), 1), disk))
    columns = ("arm", "params, M", "GFLOPs", "hours a run", f"hours, {seeds} seeds", "disk, GB")
    return Table(f"Estimates on {len(plan.devices) or 1} device(s)", columns, tuple(rows))
