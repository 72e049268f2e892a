"""The tools of the command line: commands in the place of a mode, one row each. Nothing here imports torch.

A row lists what the tool takes; parsing, errors and help are derived from it. The work is done by a name of the
package, looked up when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ultralytics
from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.cfg.schema import KEYS, Trait, keys_with
from ultralytics.cli.block_tools import blocks, schema
from ultralytics.cli.grammar import open_model
from ultralytics.cli.study_tools import STUDY_TOOLS
from ultralytics.cli.tool_calls import Tool, ToolCall, check_used
from ultralytics.cli.weights_tools import fetch_published, push
from ultralytics.utils import tables
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import WEIGHTS_SUFFIXES, YAML_SUFFIXES
from ultralytics.utils.log import LOGGER, write_text

PIXEL = k.Kind("two integers x,y", lambda value: _pixel(value), "list[int]")
QUERY = k.Kind("an integer, at least 0, or all", lambda value: _query(value), "int | str")
MODEL_ROW = k.Kind("a list such as [SHSA, []]", lambda value: _row(value), "list[Any]")
LAYER_OF_MODEL = k.Kind("an integer or a name", lambda value: _layer(value), "int | str")
MODULES = Key("modules", k.PATHS, None, "Python files with registered blocks", nullable=True)


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
    if len(names) == 1 and names[0].endswith(WEIGHTS_SUFFIXES) and not call.own:
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


def tile(call: ToolCall) -> None:
    """Write a data set of training tiles."""
    ultralytics.tile(**call.own)


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
        files=(*YAML_SUFFIXES, *WEIGHTS_SUFFIXES),
    ),
    Tool(
        "export",
        "the model in another format: onnx, openvino, engine, coreml, torchscript, safetensors, state_dict, hf",
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
        "fetch",
        "published weights by name, or hf:owner/name; without a name, the list of them",
        fetch_published,
        "yolo fetch rtdetr-r18 dfine-s",
        own=(
            Key("folder", k.PATH, None, "where to put them; null: weights_dir of the settings", nullable=True),
            Key("mirror", k.PATH, None, "a folder, or a base address, that has the files", nullable=True),
            Key("max_gb", k.FLOAT, 2.0, "the most gigabytes that a file may have", low=0),
        ),
        files=("",),
    ),
    Tool(
        "push",
        "a model, as format=hf writes it, uploaded to the hub (extra hub); private unless asked",
        push,
        "yolo push model=best.pt repo=owner/name",
        own=(
            Key("repo", k.WORD, None, "owner/name on the hub"),
            Key("private", k.BOOL, True, "a repository that is made is private"),
            Key("message", k.TEXT, "Upload model", "message of the commit"),
        ),
        run_keys=("model", "modules", "task"),
        required=("model", "repo"),
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
        "tile",
        "training tiles of a data set of large images, in a new folder",
        tile,
        "yolo tile data=data.yaml size=640 overlap=0.2 out=tiles",
        own=(
            Key("data", k.PATH, None, "data set YAML"),
            Key("size", k.IMGSZ, 640, "side of a tile in px, or [h, w]", low=32),
            Key("overlap", k.FLOAT, 0.2, "least overlap of neighbours, as a ratio of the side", low=0, high=0.9),
            Key("out", k.PATH, None, "new folder; null: name of the YAML and size", nullable=True),
            Key("min_area", k.UNIT, 0.7, "part of an object's area that must lie in a tile for its label"),
            Key("background", k.FLOAT, 0.1, "most tiles without objects, for each tile with some", low=0),
            Key("whole", k.BOOL, True, "also keep each image that is cut as a whole"),
        ),
        required=("data",),
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
        files=WEIGHTS_SUFFIXES,
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
)
TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in (*_ROWS, *STUDY_TOOLS)})
"""Every tool by its name."""
