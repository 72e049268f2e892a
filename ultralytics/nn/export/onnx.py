"""A model as an ONNX file: written by torch, simplified and quantised by ONNX tools, with metadata.

Two exporters of torch, chosen by operator set: up to 20 the one that traces, from 21 on the one that captures the
program. On the same models both gave the same numbers for every batch and size, and the first took a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.nn.backends.metadata import METADATA_KEY, ExportMetadata
from ultralytics.nn.export.prepare import suppress_warnings
from ultralytics.utils.checks import require
from ultralytics.utils.errors import ConfigError, MissingPackageError
from ultralytics.utils.log import LOGGER

DEFAULT_OPSET = 17  # the oldest in which every operator used here is standard and which all runtimes read
MIN_OPSET, MAX_TRACED_OPSET = 16, 20
INPUT, OUTPUT, BATCH_AXIS = "images", "output0", "batch"


def write_onnx(
    form: nn.Module, example: Tensor, path: Path, metadata: ExportMetadata, stride: int, open_batch: bool = False
) -> None:
    """Write `form`, with input `images` and output `output0`, in the operator set `metadata.opset`.

    `open_batch` leaves the number of images open in a graph of one size, for `set_batch`; of the tracing exporter only.

    Raises ConfigError for an operator set that neither torch nor the installed packages can write.
    """
    onnx = require("onnx", "format=onnx", "export")
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= metadata.opset <= newest:
        raise ConfigError(
            f"opset={metadata.opset}: sampling needs {MIN_OPSET}, and onnx {onnx.__version__} knows {newest}"
        )
    with suppress_warnings():
        if metadata.opset <= MAX_TRACED_OPSET:
            _trace(form, example, path, metadata, open_batch)
        else:
            _capture(form, example, path, metadata, stride)


def _trace(form: nn.Module, example: Tensor, path: Path, metadata: ExportMetadata, open_batch: bool) -> None:
    open_axes = {INPUT: {0: BATCH_AXIS, 2: "height", 3: "width"}, OUTPUT: {0: BATCH_AXIS, 1: "rows"}}
    if metadata.task == "classify" or not metadata.dynamic:
        open_axes[OUTPUT] = {0: BATCH_AXIS}
    if not metadata.dynamic:
        open_axes[INPUT] = {0: BATCH_AXIS}
    torch.onnx.export(
        form,
        (example,),
        str(path),
        dynamo=False,
        opset_version=metadata.opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes=open_axes if metadata.dynamic or open_batch else None,
    )


def _capture(form: nn.Module, example: Tensor, path: Path, metadata: ExportMetadata, stride: int) -> None:
    require("onnxscript", f"opset={metadata.opset}", "export")
    dim = torch.export.Dim
    open_dims = {0: dim("batch"), 2: stride * dim("rows_of_cells"), 3: stride * dim("columns_of_cells")}
    if metadata.dynamic and len(example) == 1:  # a size of 1 would be taken for a constant
        example = example.expand(2, -1, -1, -1).contiguous()
    program = torch.onnx.export(
        form,
        (example,),
        None,
        dynamo=True,
        opset_version=metadata.opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=(open_dims,) if metadata.dynamic else None,
        verbose=False,
    )
    if program is None:
        raise ConfigError(f"opset={metadata.opset}: torch wrote nothing", f"use opset={MAX_TRACED_OPSET} or lower")
    written = next(o.version for o in program.model_proto.opset_import if o.domain in {"", "ai.onnx"})
    if written != metadata.opset:
        raise ConfigError(f"opset={metadata.opset}: this torch writes {written} instead", f"use opset={written}")
    program.save(str(path))


def set_batch(path: Path, batch: int) -> None:
    """Fix the number of images of a graph that was written with `open_batch`, in place."""
    onnx = require("onnx", "format=onnx", "export")
    model = onnx.load(str(path))
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == BATCH_AXIS:
                axis.dim_value = batch
    onnx.save(model, str(path))


def simplify(path: Path) -> None:
    """Simplify a file in place with onnxslim if that is installed; else log that it is not."""
    onnx = require("onnx", "format=onnx", "export")
    try:
        onnxslim = require("onnxslim", "simplify=True", "export")
    except MissingPackageError:
        LOGGER.info("simplify: onnxslim is not installed, the graph stays as torch wrote it (pip install onnxslim)")
        return
    with suppress_warnings():
        onnx.save(onnxslim.slim(onnx.load(str(path))), str(path))


def write_metadata(path: Path, metadata: ExportMetadata) -> None:
    """Write metadata into the file, in place."""
    onnx = require("onnx", "format=onnx", "export")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    for key, value in {METADATA_KEY: metadata.to_json(), **metadata.common_properties()}.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = METADATA_KEY
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


class _Reader:
    """Hands images to the calibration one batch at a time, in the form that the quantiser asks for."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next batch, None at the end."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image.cpu().numpy()}


def quantize(path: Path, target: Path, images: Iterable[Tensor], head: str) -> None:
    """Write a copy with the convolutions of backbone and encoder in int8, calibrated on `images` (B, C, H, W).

    Static quantisation of ONNX Runtime: weights by channel, symmetric, of 7 bits; activations from the range seen.
    Attention, norms and the whole head, whose nodes start with `head`, stay in fp32.
    """
    tool = require("onnxruntime.quantization", "quantize=8", "export")
    onnx = require("onnx", "format=onnx", "export")
    shaped = path.with_name(f"shaped_{path.name}")
    shapes = require("onnxruntime.quantization.shape_inference", "quantize=8", "export")
    shapes.quant_pre_process(str(path), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
    nodes = onnx.load(str(shaped), load_external_data=False).graph.node
    tool.quantize_static(
        str(shaped),
        str(target),
        _Reader(images),
        quant_format=tool.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in nodes if node.name.startswith(head)],
        per_channel=True,
        activation_type=tool.QuantType.QUInt8,
        weight_type=tool.QuantType.QInt8,
        reduce_range=True,  # an x86 without VNNI adds two products in 16 bits, which 8-bit weights overflow, silently
        extra_options={"WeightSymmetric": True},
    )
