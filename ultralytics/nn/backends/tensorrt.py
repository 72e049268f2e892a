"""TensorRT engines. Written from TensorRT's interface; not run by this project yet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ultralytics.nn.backends.base import Runner, exported_runner
from ultralytics.nn.backends.metadata import ExportMetadata
from ultralytics.utils.checks import check_file, require
from ultralytics.utils.errors import CheckpointError, DeviceError

LENGTH_BYTES = 4
MAX_METADATA_BYTES = 4 << 20


def pack_engine(metadata: ExportMetadata, engine: bytes) -> bytes:
    """Return the file: length of the metadata (4 bytes, little endian), metadata as JSON, engine."""
    text = metadata.to_json().encode()
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + engine


def unpack_engine(data: bytes, origin: str) -> tuple[ExportMetadata, bytes]:
    """Return metadata and engine of a file. Raises CheckpointError when it is truncated or not of this package."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    if length > MAX_METADATA_BYTES or len(data) <= start:
        raise CheckpointError(
            f"{origin}: not an engine that `yolo export` wrote, or truncated", "export the model again"
        )
    text = data[LENGTH_BYTES:start].decode("utf-8", errors="replace")
    return ExportMetadata.from_json(text, origin), data[start:]


def tensorrt_runner(weights: str | Path, device: torch.device, fp16: bool, fuse: bool) -> Runner:
    """Open an `.engine` file; it runs only on the kind of GPU and the TensorRT that it was built with.

    Raises MissingPackageError without TensorRT, DeviceError without a GPU, CheckpointError for a file of another GPU or
    version.
    """
    path = check_file(weights)
    metadata, engine = unpack_engine(path.read_bytes(), str(path))
    trt = require("tensorrt", f"running {path.name}")
    target = device if device.type == "cuda" else torch.device("cuda")
    if not torch.cuda.is_available():
        raise DeviceError(f"{path.name} needs an NVIDIA GPU, and torch sees none")
    logger = trt.Logger(trt.Logger.ERROR)
    with torch.cuda.device(target):  # TensorRT takes the current GPU
        loaded = trt.Runtime(logger).deserialize_cuda_engine(engine)
        if loaded is None:
            raise CheckpointError(f"{path}: this TensorRT ({trt.__version__}) or GPU cannot run it", "export it here")
        context = loaded.create_execution_context()
    names = [loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)]
    source = next(n for n in names if loaded.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
    sink = next(n for n in names if n != source)

    def call(im: Tensor) -> Tensor:
        im = im.to(target).contiguous()
        context.set_input_shape(source, tuple(im.shape))
        out = torch.empty(tuple(context.get_tensor_shape(sink)), device=target)
        context.set_tensor_address(source, im.data_ptr())
        context.set_tensor_address(sink, out.data_ptr())
        stream = torch.cuda.current_stream(target)
        with torch.cuda.device(target):
            context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return out

    return exported_runner(call, metadata, path.name)
