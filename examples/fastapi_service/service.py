"""A detector behind HTTP: concurrent requests become batches, every input has a bound, and nothing waits for ever.

    MODEL=best.pt uvicorn service:app --host 127.0.0.1 --port 8000
    curl --data-binary @photo.jpg -H 'content-type: image/jpeg' 'http://127.0.0.1:8000/predict?conf=0.4'

POST /predict takes the bytes of an image; GET /health and GET /metrics (Prometheus text) are for operators. Settings
are environment variables, see `Settings`. One process holds one model; run several behind a proxy for several GPUs.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, HTTPException, Query, Request, Response
from PIL import Image

from ultralytics.data.images import UNREADABLE, decode, open_photograph

Pixels = npt.NDArray[np.uint8]
Detections = list[dict[str, Any]]
Confidence = Annotated[float, Query(ge=0, le=1)]
Predict = Callable[[Sequence[Pixels]], list[Detections]]
"""From BGR images (h, w, 3) to the detections of each, `Results.summary`."""

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


@dataclass(frozen=True)
class Settings:
    """Bounds of the service; each is read from the environment variable of its name in capitals."""

    model: str = "best.pt"
    device: str = "cpu"
    imgsz: int = 640
    lowest_conf: float = 0.05  # a request's `conf` may not be below
    max_bytes: int = 10_000_000  # of an upload
    max_pixels: int = 25_000_000  # of an image
    max_batch: int = 8  # images of one call of the model
    max_wait_ms: int = 10  # that an image waits for others to join its batch
    max_queue: int = 64  # images that wait; more are refused with 503
    timeout_s: float = 10.0  # for an upload, and again for its answer

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings of this process."""
        given = {f.name: os.environ[f.name.upper()] for f in fields(cls) if f.name.upper() in os.environ}
        return cls(**{name: type(getattr(cls, name))(text) for name, text in given.items()})


@dataclass
class Metrics:
    """Counters since the start."""

    requests: Counter[int] = field(default_factory=Counter)  # by status
    buckets: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0
    images: int = 0
    batches: int = 0

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.requests[status] += 1
        self.seconds += seconds
        for bound in BUCKETS:
            self.buckets[bound] += seconds <= bound

    def text(self, queue: int) -> str:
        """The counters in Prometheus' format."""
        lines = ["# TYPE detector_requests_total counter"]
        lines += [f'detector_requests_total{{status="{s}"}} {n}' for s, n in sorted(self.requests.items())]
        lines.append("# TYPE detector_request_seconds histogram")
        lines += [f'detector_request_seconds_bucket{{le="{bound:g}"}} {self.buckets[bound]}' for bound in BUCKETS]
        total = sum(self.requests.values())
        lines += [
            f'detector_request_seconds_bucket{{le="+Inf"}} {total}',
            f"detector_request_seconds_sum {self.seconds:.6f}",
            f"detector_request_seconds_count {total}",
        ]
        for name, kind, value in (
            ("images_total", "counter", self.images),
            ("batches_total", "counter", self.batches),
            ("queue_length", "gauge", queue),
            ("resident_memory_bytes", "gauge", resident_bytes()),
        ):
            lines += [f"# TYPE detector_{name} {kind}", f"detector_{name} {value}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Batcher:
    """Collects images of concurrent requests and runs them together, in one thread, first come first served."""

    def __init__(self, predict: Predict, settings: Settings, metrics: Metrics) -> None:
        self.predict, self.settings, self.metrics = predict, settings, metrics
        self.queue: asyncio.Queue[tuple[Pixels, asyncio.Future[Detections]]] = asyncio.Queue(settings.max_queue)
        self.thread = ThreadPoolExecutor(1, "detector")

    async def __call__(self, image: Pixels) -> Detections:
        """The detections of an image. Raises HTTPException 503 when too many wait, 504 when it takes too long."""
        answer: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((image, answer))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"}) from None
        try:
            return await asyncio.wait_for(answer, self.settings.timeout_s)
        except asyncio.TimeoutError:
            raise HTTPException(504, f"no answer within {self.settings.timeout_s:g} s") from None

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            batch = [(image, answer) for image, answer in batch if not answer.done()]  # its request has given up
            if not batch:
                continue
            try:
                found = await loop.run_in_executor(self.thread, self.predict, [image for image, _ in batch])
            except Exception as e:  # one bad batch must not end the service
                found = [e] * len(batch)
            self.metrics.batches += 1
            self.metrics.images += len(batch)
            for (_, answer), result in zip(batch, found, strict=True):
                if answer.done():
                    continue
                answer.set_exception(result) if isinstance(result, Exception) else answer.set_result(result)

    async def _collect(self) -> list[tuple[Pixels, asyncio.Future[Detections]]]:
        """Wait for one image, then a moment for more."""
        batch = [await self.queue.get()]
        end = time.monotonic() + self.settings.max_wait_ms / 1e3
        while len(batch) < self.settings.max_batch and (left := end - time.monotonic()) > 0:
            try:
                batch.append(await asyncio.wait_for(self.queue.get(), left))
            except asyncio.TimeoutError:
                break
        while len(batch) < self.settings.max_batch and not self.queue.empty():
            batch.append(self.queue.get_nowait())
        return batch


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request, of which at most `most` bytes are kept. Raises HTTPException 413."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise HTTPException(413, f"{announced} bytes are too many; at most {most}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"the upload has more than {most} bytes")
    return bytes(body)


def decoded(body: bytes, max_pixels: int) -> Pixels:
    """The image in an upload, BGR. Its header is read before it is decoded. Raises HTTPException 400, 413 or 415."""
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of an image")
    try:
        with open_photograph(io.BytesIO(body)) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the image claims far more than {max_pixels} pixels") from None
    except UNREADABLE:
        raise HTTPException(415, "not an image that can be read, such as JPEG or PNG") from None
    if width * height > max_pixels:
        raise HTTPException(413, f"{width} x {height} pixels are too many; at most {max_pixels}")
    image = decode(np.frombuffer(body, np.uint8))
    if image is None:
        raise HTTPException(415, "the image is damaged")
    return image


def load_detector(settings: Settings) -> Predict:
    """The model of the settings as a function of a batch of images."""
    from ultralytics import RTDETR

    model = RTDETR(settings.model)

    def predict(images: Sequence[Pixels]) -> list[Detections]:
        found = model.predict(
            list(images), batch=len(images), imgsz=settings.imgsz, conf=settings.lowest_conf, device=settings.device,
            verbose=False,
        )  # fmt: skip
        return [result.summary() for result in found]

    predict([np.zeros((64, 64, 3), np.uint8)])  # the first call is slow
    return predict


def create_app(predict: Predict | None = None, settings: Settings | None = None) -> FastAPI:
    """The service; `predict` is by default the model of the settings, loaded at the start."""
    bounds = settings or Settings.from_environment()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        function = predict or await asyncio.to_thread(load_detector, bounds)
        app.state.batcher = Batcher(function, bounds, metrics)
        task = asyncio.create_task(app.state.batcher.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        app.state.batcher.thread.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="Detector", lifespan=lifespan)

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Any]) -> Response:
        start = time.perf_counter()
        status = 500
        try:
            response: Response = await call_next(request)
            status = response.status_code
            return response
        finally:
            if request.url.path == "/predict":
                metrics.answered(status, time.perf_counter() - start)

    @app.post("/predict")
    async def detect(request: Request, conf: Confidence = 0.25) -> dict[str, Any]:
        if conf < bounds.lowest_conf:
            raise HTTPException(422, f"conf={conf:g}: at least {bounds.lowest_conf:g}")
        try:
            body = await asyncio.wait_for(read_body(request, bounds.max_bytes), bounds.timeout_s)
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the upload took more than {bounds.timeout_s:g} s") from None
        image = await asyncio.to_thread(decoded, body, bounds.max_pixels)
        found = await request.app.state.batcher(image)
        height, width = image.shape[:2]
        return {"width": width, "height": height, "boxes": [box for box in found if box["confidence"] > conf]}

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return {"status": "ok", "model": bounds.model, "waiting": request.app.state.batcher.queue.qsize()}

    @app.get("/metrics")
    async def prometheus(request: Request) -> Response:
        return Response(metrics.text(request.app.state.batcher.queue.qsize()), media_type="text/plain; version=0.0.4")

    return app


def __getattr__(name: str) -> FastAPI:
    """`service:app` for uvicorn; importing the file alone loads no model."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
