"""The FastAPI example through its ASGI app: answers, batches of concurrent requests, and every bound."""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.engine.tiny import spread_network
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "fastapi_service"
pytest.importorskip("fastapi", exc_type=ImportError)
httpx = pytest.importorskip("httpx")
BOX = {"name": "cat", "class": 0, "confidence": 0.5, "box": {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}}


@pytest.fixture(scope="module")
def service() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield __import__("service")
    finally:
        sys.path.pop(0)
        sys.modules.pop("service", None)


def picture(h: int = 40, w: int = 60, kind: str = ".png") -> bytes:
    return cv2.imencode(kind, np.full((h, w, 3), 90, np.uint8))[1].tobytes()


class Recorder:
    """Answers one box each; remembers the sizes of its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, list[int]()

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[list[dict[str, Any]]]:
        self.batches.append(len(images))
        time.sleep(self.seconds)
        if any(image.shape[0] == 41 for image in images):
            raise RuntimeError("a broken model")
        return [[{**BOX, "confidence": 0.5}, {**BOX, "confidence": 0.1}] for _ in images]


def serve(app: Any, talk: Callable[[Any], Awaitable[Any]]) -> Any:
    """Start the app, talk to it, stop it."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as c:
            return await talk(c)

    return asyncio.run(run())


def test_answers_and_metrics(service: ModuleType) -> None:
    async def talk(client: Any) -> list[Any]:
        return [
            await client.post("/predict", content=picture()),
            await client.post("/predict?conf=0.05", content=picture(kind=".jpg")),
            await client.get("/health"),
            await client.get("/metrics"),
        ]

    usual, low, health, metrics = serve(service.create_app(Recorder(), service.Settings()), talk)
    assert usual.json() == {"width": 60, "height": 40, "boxes": [{**BOX, "confidence": 0.5}]}
    assert len(low.json()["boxes"]) == 2 and health.json()["status"] == "ok"
    assert 'detector_requests_total{status="200"} 2' in metrics.text
    assert "detector_images_total 2" in metrics.text and 'le="+Inf"} 2' in metrics.text


def test_wrong_uploads_are_refused(service: ModuleType) -> None:
    png = picture()
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + png[24:29]
    claimed = png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
    settings = service.Settings(max_bytes=2000, max_pixels=5000)
    cases = {
        "": (b"", 400),
        "text": (b"hello", 415),
        "cut": (png[:50], 415),
        "claims": (claimed, 413),
        "pixels": (picture(80, 80), 413),
        "bytes": (bytes(3000), 413),
        "?conf=2": (png, 422),
        "?conf=0.001": (png, 422),
        "good": (png, 200),
    }

    async def chunks() -> Any:  # no length is announced
        for _ in range(30):
            yield bytes(100)

    async def talk(client: Any) -> list[int]:
        found = [
            (await client.post(f"/predict{name if '=' in name else ''}", content=body)).status_code
            for name, (body, _) in cases.items()
        ]
        return [*found, (await client.post("/predict", content=chunks())).status_code]

    assert serve(service.create_app(Recorder(), settings), talk) == [*(s for _, s in cases.values()), 413]


def test_concurrent_requests_become_batches(service: ModuleType) -> None:
    recorder = Recorder(0.05)
    settings = service.Settings(max_batch=4, max_wait_ms=50)

    async def talk(client: Any) -> list[int]:
        posts = [client.post("/predict", content=picture()) for _ in range(8)]
        return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert serve(service.create_app(recorder, settings), talk) == [200] * 8
    assert sum(recorder.batches) == 8 and max(recorder.batches) == 4


def test_a_full_queue_and_a_slow_model_are_answers(service: ModuleType) -> None:
    settings = service.Settings(max_batch=1, max_queue=1, max_wait_ms=0, timeout_s=0.1)

    async def talk(client: Any) -> list[int]:
        posts = [client.post("/predict", content=picture()) for _ in range(6)]
        return [answer.status_code for answer in await asyncio.gather(*posts)]

    statuses = serve(service.create_app(Recorder(0.3), settings), talk)
    assert set(statuses) == {503, 504}


def test_a_failing_batch_does_not_end_the_service(service: ModuleType) -> None:
    async def talk(client: Any) -> list[int]:
        return [(await client.post("/predict", content=picture(h))).status_code for h in (41, 40)]

    assert serve(service.create_app(Recorder(), service.Settings()), talk) == [500, 200]


def test_with_a_model(service: ModuleType, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "best.pt", {"model": pack_model(spread_network())})
    settings = service.Settings(model=str(path), imgsz=64, lowest_conf=0.01)

    async def talk(client: Any) -> Any:
        return (await client.post("/predict?conf=0.02", content=picture(96, 128))).json()

    boxes = serve(service.create_app(None, settings), talk)["boxes"]
    assert boxes and all(box["name"] in {"red", "green", "blue"} and box["confidence"] > 0.02 for box in boxes)


def test_settings_come_from_the_environment(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BYTES", "7")
    monkeypatch.setenv("MODEL", "a.zip")
    settings = service.Settings.from_environment()
    assert (settings.max_bytes, settings.model, settings.max_batch) == (7, "a.zip", 8)
