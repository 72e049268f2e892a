"""The tools that belong to studies: many runs, their tables and figures. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

import ultralytics
from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.cli.grammar import open_model
from ultralytics.cli.tool_calls import Tool, ToolCall, check_used
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import WEIGHTS_SUFFIXES, YAML_SUFFIXES

SPACE = k.Kind("optimizer, augmentation, loss, all, or a YAML file", lambda value: str(value), "str")
ENGINE = Key("engine", k.WORD, "local", "where the runs are executed", choices=("local", "slurm", "ray"))
FMT = Key("fmt", k.WORD, "pdf", "vector format of the figures beside PNG", choices=("pdf", "svg"))


def run_ablation(call: ToolCall) -> None:
    """Run a study of variants over seeds."""
    if len(call.files) != 1:
        raise ConfigError("ablate needs one file, the plan of the study", "yolo ablate plan.yaml")
    ultralytics.ablate(call.files[0], **call.own)


def tune(call: ToolCall) -> None:
    """Search for arguments of training."""
    model = call.model
    model.tune(**call.arguments)


def measure_field(call: ToolCall) -> None:
    """Measure the effective receptive field of layers."""
    ultralytics.erf(call.model, **call.arguments)


def draw_run_curves(call: ToolCall) -> None:
    """Draw the curves of several runs in one figure."""
    if not call.files:
        raise ConfigError("curves needs run folders", "yolo curves runs/a runs/b")
    ultralytics.curves(call.files, **call.own)


def report_run(call: ToolCall) -> None:
    """Write one page about a run folder."""
    if len(call.files) != 1:
        raise ConfigError("report needs one run folder", "yolo report runs/detect/train")
    ultralytics.report(call.files[0], **call.own)


def compare_weights(call: ToolCall) -> None:
    """Validate several weights on the same images and compare them; of run folders, compare what they consist of."""
    folders = [file for file in call.files if Path(file).is_dir()]
    if folders:
        if len(folders) < len(call.files) or call.values.get("model"):
            raise ConfigError("compare takes weights files or run folders, not both at once")
        used = ("save_dir", "device", "split")
        check_used("a comparison of runs", call.direct, used, "runs are evaluated with their own arguments")
        ultralytics.compare_runs(folders, **call.arguments)
        return
    first = [call.values["model"]] if call.values.get("model") else []
    models = [open_model(name, call.values) for name in (*first, *call.files)]
    ultralytics.compare(models, **call.arguments)


STUDY_TOOLS = (
    Tool(
        "ablate",
        "a study: variants over several seeds, judged by statistics, with tables, figures and a page",
        run_ablation,
        "yolo ablate plan.yaml project=runs/studies",
        own=(
            Key("project", k.PATH, None, "folder of studies; null: below the runs of the settings", nullable=True),
            ENGINE,
            Key(
                "devices",
                k.DEVICE,
                None,
                "devices of engine=local, such as 0,1 or cpu; null: as in the plan",
                nullable=True,
            ),
            FMT,
            Key("dry", k.BOOL, False, "check and estimate only"),
        ),
        files=YAML_SUFFIXES,
    ),
    Tool(
        "tune",
        "a search for arguments of training, on images that are held out of the training split",
        tune,
        "yolo tune model=rtdetr-l.yaml data=data.yaml iterations=30 epochs=20",
        own=(
            Key("iterations", k.INT, 10, "trials, the base included", low=2),
            Key("space", SPACE, "all", "what is varied"),
            Key("holdout", k.UNIT, 0.2, "ratio of the training images that choose"),
            Key("processes", k.INT, 1, "trials that run at once; with several devices they take these in turn", low=1),
            Key("prune", k.BOOL, True, "end trials whose curve lies below the median of the others"),
            ENGINE,
            FMT,
        ),
        run_keys=None,
        required=("model", "data"),
    ),
    Tool(
        "erf",
        "the effective receptive field of layers: how far into the image they look, averaged over images",
        measure_field,
        "yolo erf model=best.pt source=images imgsz=640 layer=6,8",
        own=(
            Key("layer", k.INT_OR_INTS, None, "layer index, or several; null: the inputs of the head", nullable=True),
            FMT,
        ),
        run_keys=None,
        required=("model", "source"),
    ),
    Tool(
        "compare",
        "several weights validated on the same images (also: yolo val a.pt b.pt), or run folders grouped by content",
        compare_weights,
        "yolo compare a.pt b.pt data=data.yaml",
        run_keys=None,
        files=WEIGHTS_SUFFIXES,
        folders=True,
    ),
    Tool(
        "report",
        "one HTML page of a run: numbers, curves, pictures, arguments; it makes no request",
        report_run,
        "yolo report runs/detect/train",
        own=(Key("out", k.PATH, None, "file of the page; null: report.html in the folder", nullable=True),),
        folders=True,
    ),
    Tool(
        "curves",
        "curves of several runs in one figure, with bands over seeds",
        draw_run_curves,
        "yolo curves runs/a runs/b out=curves fmt=pdf",
        own=(
            Key("columns", k.PATHS, None, "columns of results.csv; null: AP50-95", nullable=True),
            Key("out", k.PATH, "curves", "file of the figure without suffix"),
            FMT,
        ),
        folders=True,
    ),
)
"""Rows of the table of tools."""
