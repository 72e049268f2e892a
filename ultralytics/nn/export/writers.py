"""A model as TorchScript, OpenVINO, TensorRT or Core ML; metadata are stored inside each file."""

from __future__ import annotations

import io
import json
import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from ultralytics.nn.backends.metadata import CONFIG_FILE, METADATA_KEY, METADATA_YAML, ExportMetadata
from ultralytics.nn.backends.tensorrt import pack_engine
from ultralytics.nn.backends.torchscript import METADATA_FILE
from ultralytics.nn.export.prepare import suppress_warnings
from ultralytics.utils.checks import require
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, DeviceError
from ultralytics.utils.files import atomic_write

MAX_ENGINE_BATCH = 16


def write_torchscript(form: nn.Module, example: Tensor, path: Path, metadata: ExportMetadata) -> None:
    """Trace `form` and save it."""
    with suppress_warnings():
        traced = torch.jit.trace(form, (example,), check_trace=False)
        content = io.BytesIO()  # torch's own writer ends the process when the disk is full
        torch.jit.save(
            traced,
            content,
            _extra_files={METADATA_FILE: metadata.to_json(), CONFIG_FILE: json.dumps(metadata.common_values())},
        )
    with atomic_write(path, "wb") as f:
        f.write(content.getbuffer())


def write_openvino(source: Path, folder: Path, metadata: ExportMetadata) -> None:
    """Turn an ONNX file into `<folder>/<name>.xml` and `.bin`; precisions stay those of the file."""
    ov = require("openvino", "format=openvino", "export")
    model = ov.convert_model(str(source))
    model.set_rt_info(metadata.to_json(), [METADATA_KEY])
    folder.mkdir(parents=True)
    YAML.save(folder / METADATA_YAML, metadata.common_values())
    ov.save_model(model, str(folder / f"{source.stem}.xml"), compress_to_fp16=False)


def write_engine(source: Path, path: Path, metadata: ExportMetadata, workspace: float | None) -> None:
    """Build a TensorRT engine from an ONNX file, whose own types decide each layer's precision.

    Raises MissingPackageError without TensorRT, DeviceError without a GPU, ConfigError when TensorRT refuses the graph.
    Written from TensorRT's interface; not run by this project yet.
    """
    trt = require("tensorrt", "format=engine")
    if not torch.cuda.is_available():
        raise DeviceError("format=engine needs an NVIDIA GPU, and torch sees none")
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    flags = trt.NetworkDefinitionCreationFlag
    wanted = [getattr(flags, name) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name)]
    network = builder.create_network(sum(1 << int(flag) for flag in wanted))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse(source.read_bytes()):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise ConfigError(f"TensorRT {trt.__version__} cannot read the graph", *(r[:200] for r in reasons[:2]))
    config = builder.create_builder_config()
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace * 2**30))
    if metadata.dynamic:
        h, w = metadata.imgsz
        profile = builder.create_optimization_profile()
        small, large = (
            (1, metadata.channels, metadata.stride, metadata.stride),
            (MAX_ENGINE_BATCH, metadata.channels, 2 * h, 2 * w),
        )
        profile.set_shape(network.get_input(0).name, small, (metadata.batch, metadata.channels, h, w), large)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ConfigError(f"TensorRT {trt.__version__} built no engine", "its log above says why")
    with atomic_write(path, "wb") as f:
        f.write(pack_engine(metadata, bytes(engine)))


def write_coreml(form: nn.Module, example: Tensor, path: Path, metadata: ExportMetadata) -> None:
    """Write a Core ML package.

    Raises MissingPackageError without coremltools, DeviceError on Windows, where it cannot write one.
    Written from coremltools' interface; not run by this project yet.
    """
    ct = require("coremltools", "format=coreml")
    if platform.system() == "Windows":
        raise DeviceError("format=coreml: coremltools writes packages on macOS and Linux only")
    with suppress_warnings():
        traced = torch.jit.trace(form, (example,), check_trace=False)
    precision = ct.precision.FLOAT16 if metadata.precision == "fp16" else ct.precision.FLOAT32
    model = ct.convert(
        traced,
        inputs=[ct.TensorType("images", shape=tuple(example.shape))],
        outputs=[ct.TensorType("output0")],
        convert_to="mlprogram",
        compute_precision=precision,
        minimum_deployment_target=ct.target.iOS16,
    )
    for key, value in {METADATA_KEY: metadata.to_json(), **metadata.common_properties()}.items():
        model.user_defined_metadata[key] = value
    model.save(str(path))
