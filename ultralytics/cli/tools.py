"""The tools of the command line: commands in the place of a mode, one row each. Nothing here imports torch.

A row lists what the tool takes; parsing, errors and help are derived from it. The work is done by a name of the
package, looked up when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ultralytics
from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.cfg.renames import OLD_NAMES
from ultralytics.cfg.schema import KEYS, TASKS, Trait, keys_with
from ultralytics.cli.block_tools import blocks, schema
from ultralytics.cli.grammar import WEIGHTS, call_arguments, open_model, parse_overrides, user_arguments, value_of
from ultralytics.utils import tables
from ultralytics.utils.checks import nearest
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError, UnknownArgumentError
from ultralytics.utils.log import LOGGER, write_text

YAMLS = (".yaml", ".yml")
PIXEL = k.Kind("two integers x,y", lambda value: _pixel(value), "list[int]")
QUERY = k.Kind("an integer, at least 0, or all", lambda value: _query(value), "int | str")
MODEL_ROW = k.Kind("a list such as [SHSA, []]", lambda value: _row(value), "list[Any]")
LAYER_OF_MODEL = k.Kind("an integer or a name", lambda value: _layer(value), "int | str")
MODULES = Key("modules", k.PATHS, None, "Python files with registered blocks", nullable=True)


@dataclass(frozen=True)
class ToolCall:
    """The parsed tokens of a tool: its files, its own arguments, and those of a run.

    `direct` are the arguments of a run on the command line itself; `values` include those of a `cfg=` file.
    """

    files: Sequence[str]
    own: Mapping[str, Any]
    direct: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def model(self) -> Any:
        """The opened model of `model=`."""
        return open_model(str(self.values["model"]), self.values)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments beside the model, the tool's own over those of a run."""
        return {**call_arguments(self.values), **self.own}


@dataclass(frozen=True)
class Tool:
    """A tool: its own keys, the arguments of a run that it takes (None: all), what it needs, and what it does.

    `files` are the suffixes of files that may be named without a key, with `folders` also folders that exist.
    """

    name: str
    purpose: str
    run: Callable[[ToolCall], None]
    example: str
    own: tuple[Key, ...] = ()
    run_keys: tuple[str, ...] | None = ()
    required: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """The names that the tool lists in its errors."""
        return tuple(dict.fromkeys([key.name for key in self.own] + list(self.run_keys or ())))

    def __call__(self, tokens: Sequence[str]) -> None:
        """Parse the tokens after the tool's name, and run it."""
        self.run(self.parse(tokens))

    def parse(self, tokens: Sequence[str]) -> ToolCall:
        """Sort the tokens into files, own arguments and arguments of a run; a bare task stands for `task=`.

        Raises:
            UnknownArgumentError: an argument that the tool does not take.
            ConfigError: a wrong value, an argument without effect on the tool, or a required one is missing.
        """
        tokens = [f"task={t}" if t in TASKS else t for t in tokens if t not in TASKS or self.run_keys != ()]
        rows = {key.name: key for key in self.own}
        files = [t for t in tokens if "=" not in t and self._is_file(t)]
        pairs = {key: text for key, equals, text in (t.partition("=") for t in tokens) if equals and key in rows}
        own = {key: rows[key].check(value_of(text, rows[key].kind)) for key, text in pairs.items()}
        rest = [t for t in tokens if t not in files and t.partition("=")[0] not in pairs]
        self._check_names(rest)
        direct = parse_overrides(rest)
        values = user_arguments(direct)
        self._check_effect(direct)
        missing = [name for name in self.required if own.get(name) is None and values.get(name) is None]
        if missing:
            raise ConfigError(f"{self.name} needs {', '.join(f'{name}=' for name in missing)}", self.example)
        return ToolCall(files, own, direct, values)

    def _is_file(self, token: str) -> bool:
        """Whether a bare token names a file or folder that the tool takes."""
        if self.folders and Path(token).is_dir():
            return True
        return bool(self.files) and token.lower().endswith(self.files)

    def _check_names(self, tokens: Sequence[str]) -> None:
        """Raise UnknownArgumentError for the first token that the tool does not take, unless it takes all of a run."""
        if self.run_keys is None:
            return
        for name in (t.partition("=")[0] for t in tokens):
            of_a_run = name in KEYS or name in OLD_NAMES
            if name not in self.run_keys and not (self.run_keys and of_a_run):
                near = nearest(name, self.known)
                hint = f"did you mean {' or '.join(near)}?" if near else self.example
                raise UnknownArgumentError(f"{self.name} takes {', '.join(self.known)}, not {name!r}\n{hint}")

    def _check_effect(self, direct: Mapping[str, Any]) -> None:
        """Raise ConfigError for the first argument of a run that the tool does not use."""
        if self.run_keys:
            check_used(self.name, direct, self.run_keys, f"{self.name} takes {', '.join(f'{n}=' for n in self.known)}")


def check_used(tool: str, direct: Mapping[str, Any], used: Sequence[str], remedy: str) -> None:
    """Raise ConfigError for the first argument that is not used; a letter as `scale` is the scale of the model."""
    for name, value in direct.items():
        if name not in used or (name == "scale" and not isinstance(value, str)):
            raise ConfigError(f"{name}={value} has no effect on {tool}", remedy)


def _pixel(value: Any) -> list[int]:
    point = k.INTS.convert(value)
    if len(point) != 2 or min(point) < 0:
        raise ValueError
    return [int(v) for v in point]


def _query(value: object) -> int | str:
    if isinstance(value, str) and value.lower() == "all":
        return "all"
    rank: int = k.INT.convert(value)
    if rank < 0:
        raise ValueError
    return rank


def _layer(value: object) -> int | str:
    layer: int | str = value if isinstance(value, str) else k.INT.convert(value)
    return layer


def _row(value: object) -> list[object]:
    """A row as the YAML of a model has it; the shell passes it as a string."""
    if isinstance(value, str):
        try:
            value = load_with_lines(f"row: {value}\n")[0]["row"]
        except ConfigError:
            raise ValueError from None
    if not isinstance(value, list):
        raise ValueError
    return value


def info(call: ToolCall) -> None:
    """Print the layer table of a model, the content of a weights file, or one row for each of several models."""
    names = [*([call.values["model"]] if call.values.get("model") is not None else []), *call.files]
    if not names:
        raise ConfigError("info needs model=, a model YAML or weights file")
    if "save" in call.own and len(names) > 1:
        raise ConfigError(f"save={call.own['save']}: one graph at a time, not of {len(names)} models")
    if len(names) == 1 and names[0].endswith(WEIGHTS) and not call.own:
        remedy = "the content is read without building the model; format=text builds it and counts"
        check_used("info", call.direct, ("model", "task", "cfg"), remedy)
        write_text(sys.stdout, "\n".join(ultralytics.RTDETR.contents(names[0])) + "\n")
        return
    imgsz = call.values.get("imgsz", KEYS["imgsz"].default)
    if len(names) > 1 or "format" in call.own:
        models = [open_model(name, call.values) for name in names]
        rows = models[0].comparison([m.totals(imgsz) for m in models])
        write_text(sys.stdout, "\n".join(tables.TABLE_FORMATS[call.own.get("format", "text")](rows)) + "\n")
        return
    model = open_model(names[0], call.values)
    model.info(detailed=True, verbose=True, imgsz=imgsz)
    if "save" in call.own:
        LOGGER.info(f"graph: {model.draw(call.own['save'], imgsz)}")


def export(call: ToolCall) -> None:
    """Write the model in another format."""
    model = call.model
    model.export(**call.arguments)


def benchmark(call: ToolCall) -> None:
    """Measure the model in each format that this machine can run."""
    model = call.model
    model.benchmark(**call.arguments)


def pack(call: ToolCall) -> None:
    """Write the model and what belongs to it as one zip."""
    model = call.model
    model.pack(**{"format": "", **call.arguments})


def convert(call: ToolCall) -> None:
    """Write the labels of a data set in another format."""
    ultralytics.convert(**call.own)


def doctor(call: ToolCall) -> None:
    """Report on a data set; exit code 1 when training on it is not safe."""
    if not ultralytics.doctor(**call.own).safe:
        raise SystemExit(1)


def insert(call: ToolCall) -> None:
    """Write a model YAML with a row put in."""
    kept = ultralytics.insert(**call.own)
    LOGGER.info(f"{call.own['out']} written; `yolo info model={call.own['out']}` shows it")
    if not kept:
        LOGGER.warning("the comments of the file could not be kept: its rows are not of the form - [from, ...]")


def replay(call: ToolCall) -> None:
    """Run a failed training step again."""
    if len(call.files) != 1:
        raise ConfigError("replay needs one file, the replay.pt in the folder of a run that failed")
    ultralytics.replay(call.files[0], **call.own)


def heatmap(call: ToolCall) -> None:
    """Explain predictions by images and arrays."""
    model = call.model
    model.heatmap(**call.arguments)


def show(call: ToolCall) -> None:
    """Draw the samples that the network gets in training."""
    values = {name: value for name, value in call.values.items() if name not in {"task", "mode", "cfg"}}
    ultralytics.show(**{**values, **call.own})


def run_ablation(call: ToolCall) -> None:
    """Run a study of variants over seeds."""
    if len(call.files) != 1:
        raise ConfigError("ablate needs one file, the plan of the study", "yolo ablate plan.yaml")
    ultralytics.ablate(call.files[0], **call.own)


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


_ROWS = (
    Tool(
        "blocks",
        "the rows that a model YAML may have, with their cost; one with an example",
        blocks,
        "yolo blocks DySample",
        own=(
            Key("format", k.WORD, None, "form of the table", choices=tuple(tables.TABLE_FORMATS)),
            MODULES,
        ),
        files=("",),
    ),
    Tool(
        "schema",
        "the JSON schema of model YAMLs, data YAMLs or arguments, with which an editor completes and checks them",
        schema,
        "yolo schema kind=model out=model.schema.json",
        own=(
            Key("kind", k.WORD, "model", "kind of file", choices=("model", "data", "args")),
            Key("out", k.PATH, None, "write it to this file", nullable=True),
            MODULES,
        ),
    ),
    Tool(
        "info",
        "the layer table of a model, the content of a weights file, or one row for each of several models",
        info,
        "yolo info model=rtdetr-l.yaml imgsz=640 save=graph.svg",
        own=(
            Key("save", k.PATH, None, "draw the layers into this file, such as graph.svg"),
            Key("format", k.WORD, None, "form of the table", choices=tuple(tables.TABLE_FORMATS)),
        ),
        run_keys=(*keys_with(Trait.INFO), "scale"),
        files=(*YAMLS, *WEIGHTS),
    ),
    Tool(
        "export",
        "the model in another format: onnx, openvino, engine, coreml, torchscript, safetensors, state_dict",
        export,
        "yolo export model=best.pt format=onnx imgsz=640",
        run_keys=None,
        required=("model",),
    ),
    Tool(
        "benchmark",
        "each format that this machine can run, measured",
        benchmark,
        "yolo benchmark model=best.pt data=data.yaml imgsz=640",
        run_keys=None,
        required=("model",),
    ),
    Tool(
        "pack",
        "a model in one zip: weights, YAML, your Python files, arguments, metrics, model card, exported forms if asked",
        pack,
        "yolo pack model=best.pt format=onnx",
        own=(Key("out", k.PATH, None, "the zip file; null: beside the weights", nullable=True),),
        run_keys=None,
        required=("model",),
    ),
    Tool(
        "convert",
        "the labels of a data set in another format, in a new folder",
        convert,
        "yolo convert data=data.yaml format=coco save_dir=out",
        own=(
            Key("data", k.PATH, None, "data set YAML"),
            Key("format", k.WORD, None, "yolo, coco or voc"),
            Key("save_dir", k.PATH, None, "new folder"),
            Key("images", k.WORD, "copy", "copy, link, or none (for coco)"),
        ),
        required=("data", "format", "save_dir"),
    ),
    Tool(
        "doctor",
        "is it safe to train on a data set? exit code, HTML page",
        doctor,
        "yolo doctor data=data.yaml",
        own=(
            Key("data", k.PATH, None, "data set YAML"),
            Key("imgsz", k.INT, 640, "input side to compare object sizes with", low=1),
            Key("queries", k.INT, 300, "queries to compare object counts with", low=1),
            Key("save_dir", k.PATH, None, "folder of the report", nullable=True),
        ),
        required=("data",),
    ),
    Tool(
        "insert",
        "a row put into a model YAML, the indices below it renumbered",
        insert,
        "yolo insert model=rtdetr-l.yaml after=6 row='[SHSA, []]' out=my.yaml",
        own=(
            Key("model", k.PATH, None, "model YAML"),
            Key("after", LAYER_OF_MODEL, None, "index of the layer behind which the row goes, or the name of its row"),
            Key("row", MODEL_ROW, None, "the row: [module, args], or with from and repeats in front"),
            Key("out", k.PATH, None, "new file"),
        ),
        required=("model", "after", "row", "out"),
    ),
    Tool(
        "replay",
        "a failed training step, run again",
        replay,
        "yolo replay runs/detect/train/replay.pt device=cpu amp=fp32",
        own=(
            Key("device", k.DEVICE, None, "where to run it", nullable=True),
            Key("amp", k.AMP, None, "another precision than that of the run", nullable=True),
            MODULES,
        ),
        files=WEIGHTS,
    ),
    Tool(
        "heatmap",
        "why a detector predicts what it does, as images and arrays",
        heatmap,
        "yolo heatmap model=best.pt source=photo.jpg query=0",
        own=(
            Key("kind", k.WORD, "hirescam", "hirescam, gradcam, shsa or sampling"),
            Key("layer", k.TEXT, None, "layer index, or several such as 3,4"),
            Key("query", QUERY, None, "rank of the detection to explain, 0 the best; all: each that predict shows"),
            Key("pixel", PIXEL, None, "query pixel of an attention map"),
        ),
        run_keys=None,
        required=("model", "source"),
    ),
    Tool(
        "show",
        "images of what the network gets in training",
        show,
        "yolo show data=data.yaml augment=True n=16",
        own=(
            Key("augment", k.BOOL, True, "samples of training; false: of validation"),
            Key("n", k.INT, 16, "number of images", low=1),
            Key("epoch", k.INT, 0, "epoch whose samples are drawn", low=0),
            Key("split", k.WORD, "train", "part of the data set"),
            Key("save_dir", k.PATH, None, "folder of the images", nullable=True),
        ),
        run_keys=None,
        required=("data",),
    ),
    Tool(
        "ablate",
        "a study: variants over several seeds, judged by statistics, with tables, figures and a page",
        run_ablation,
        "yolo ablate plan.yaml project=runs/studies",
        own=(
            Key("project", k.PATH, None, "folder of studies; null: below the runs of the settings", nullable=True),
            Key("engine", k.WORD, "local", "where the runs are executed", choices=("local", "slurm", "ray")),
            Key(
                "devices",
                k.DEVICE,
                None,
                "devices of engine=local, such as 0,1 or cpu; null: as in the plan",
                nullable=True,
            ),
            Key("fmt", k.WORD, "pdf", "vector format of the figures beside PNG", choices=("pdf", "svg")),
            Key("dry", k.BOOL, False, "check and estimate only"),
        ),
        files=YAMLS,
    ),
    Tool(
        "compare",
        "several weights validated on the same images (also: yolo val a.pt b.pt), or run folders grouped by content",
        compare_weights,
        "yolo compare a.pt b.pt data=data.yaml",
        run_keys=None,
        files=WEIGHTS,
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
            Key("fmt", k.WORD, "pdf", "vector format beside PNG", choices=("pdf", "svg")),
        ),
        folders=True,
    ),
)
TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in _ROWS})
"""Every tool by its name."""
