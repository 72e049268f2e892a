"""Detect objects with TensorRT: an ONNX file of this package, built into an engine and run without torch. NOT RUN HERE.

    yolo export model=best.pt format=onnx                               # fixed shape
    trtexec --onnx=best.onnx --saveEngine=best.plan --fp16               # on the machine with the GPU
    pip install tensorrt cuda-python numpy opencv-python
    python detect.py best.plan photo.jpg --conf 0.25

Written from the documented interfaces of TensorRT 10 and cuda-python 12 on a machine that has neither. `yolo export
format=engine` builds an engine that `yolo predict` runs; this file shows how to do without the package. Images are
stretched to the input; for a model with a letterbox see `prepare` of ../onnxruntime_python/detect.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorrt as trt
from cuda.bindings import runtime as cuda


def check(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call. Raises RuntimeError with the name of the error."""
    error, *values = result
    if error != cuda.cudaError_t.cudaSuccess:
        raise RuntimeError(str(cuda.cudaGetErrorName(error)[1]))
    return values[0] if values else None


class Detector:
    """An engine with buffers on the GPU for its input `images` and its output `output0`."""

    def __init__(self, path: str | Path) -> None:
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self.runtime.deserialize_cuda_engine(Path(path).read_bytes())
        if self.engine is None:
            raise ValueError(f"{path}: not an engine of TensorRT {trt.__version__} for this GPU")
        self.context = self.engine.create_execution_context()
        self.stream = check(cuda.cudaStreamCreate())
        self.images = np.zeros(tuple(self.engine.get_tensor_shape("images")), np.float32)  # (1, 3, H, W)
        self.rows = np.zeros(tuple(self.engine.get_tensor_shape("output0")), np.float32)  # (1, K, 6)
        self.pointers = [check(cuda.cudaMalloc(array.nbytes)) for array in (self.images, self.rows)]
        for name, pointer in zip(("images", "output0"), self.pointers, strict=True):
            self.context.set_tensor_address(name, int(pointer))

    def __call__(self, image: npt.NDArray[np.uint8], conf: float = 0.25) -> npt.NDArray[np.float64]:
        """Return rows x1, y1, x2, y2 in pixels of the image (h, w, 3) BGR, score, class; best first."""
        (h, w), (height, width) = image.shape[:2], self.images.shape[2:]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        self.images[0] = small[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255
        to_device, to_host = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        source, target = self.pointers
        check(cuda.cudaMemcpyAsync(source, self.images.ctypes.data, self.images.nbytes, to_device, self.stream))
        if not self.context.execute_async_v3(int(self.stream)):
            raise RuntimeError("the engine did not run")
        check(cuda.cudaMemcpyAsync(self.rows.ctypes.data, target, self.rows.nbytes, to_host, self.stream))
        check(cuda.cudaStreamSynchronize(self.stream))
        rows = self.rows[0][self.rows[0, :, 4] > conf].astype(np.float64)
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], 1).clip(0, 1) * [w, h, w, h]
        return np.concatenate([corners, rows[:, 4:]], 1)

    def close(self) -> None:
        """Free the memory of the GPU."""
        for pointer in self.pointers:
            check(cuda.cudaFree(pointer))
        check(cuda.cudaStreamDestroy(self.stream))


def main() -> None:
    """Run on one image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("image")
    parser.add_argument("--conf", type=float, default=0.25, help="lowest score of a box")
    args = parser.parse_args()
    image = cv2.imread(args.image, cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{args.image}: cannot be read as an image")
    detector = Detector(args.engine)
    for x1, y1, x2, y2, score, cls in detector(np.asarray(image, np.uint8), args.conf):
        print(f"{int(cls)} {x1:.3f} {y1:.3f} {x2:.3f} {y2:.3f} {score:.5f}")
    detector.close()


if __name__ == "__main__":
    main()
