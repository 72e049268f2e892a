"""What the engine tests share: a network small enough to build in a moment, a drawn data set, and an oracle detector.

The data set: solid rectangles on grey, class 0 red, class 1 green, class 2 blue; image sizes differ and are not square.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.yaml_model import YamlModel

NAMES = {0: "red", 1: "green", 2: "blue"}
COLORS = ((40, 40, 220), (40, 200, 40), (220, 80, 40))  # BGR

TINY: dict[str, Any] = {
    "nc": 3,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],  # 2: P3/8
        [-1, 1, "Conv", [32, 3, 2]],  # 3: P4/16
        [-1, 1, "Conv", [32, 3, 2]],  # 4: P5/32
    ],
    "head": [
        [-1, 1, "Conv", [32, 1, 1, None, 1, 1, False]],
        [-1, 1, "AIFI", [48, 4]],  # 6
        [[2, 3, 6], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 2, 64]],
    ],
}

# Per image: (height, width) and rows of class, cx, cy, w, h in 0..1.
IMAGES: list[tuple[tuple[int, int], list[list[float]]]] = [
    ((90, 120), [[0, 0.3, 0.4, 0.3, 0.4], [1, 0.75, 0.7, 0.3, 0.3]]),
    ((120, 80), [[2, 0.5, 0.5, 0.6, 0.3]]),
    ((96, 96), []),
    ((64, 128), [[1, 0.2, 0.5, 0.2, 0.6], [1, 0.6, 0.5, 0.3, 0.5], [0, 0.9, 0.9, 0.2, 0.2]]),
]


def coco_dataset() -> dict[str, Any]:
    """The data set as COCO's dictionary, boxes as x, y, w, h in px, from the table above and nothing else."""
    table = [
        (i, int(c), [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height])
        for i, ((height, width), rows) in enumerate(IMAGES)
        for c, cx, cy, w, h in rows
    ]
    return {
        "images": [{"id": i} for i in range(len(IMAGES))],
        "categories": [{"id": c + 1} for c in NAMES],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (i, c, box) in enumerate(table, 1)
        ],
    }


def spread_network() -> RTDETRDetectionModel:
    """A network whose scores and boxes are spread, so that different pictures give different boxes."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(TINY, verbose=False)
    for parameter in model.model[-1].parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    model.names = dict(NAMES)
    return model.eval()


def draw(shape: tuple[int, int], rows: list[list[float]], grey: int = 110) -> np.ndarray:
    """Draw one image of the data set, BGR."""
    h, w = shape
    image = np.full((h, w, 3), grey, np.uint8)
    for c, cx, cy, bw, bh in rows:
        corners = np.array([(cx - bw / 2) * w, (cy - bh / 2) * h, (cx + bw / 2) * w, (cy + bh / 2) * h])
        x1, y1, x2, y2 = np.round(corners).astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), COLORS[int(c)], -1)
    return image


def write_dataset(root: Path, images: list[tuple[tuple[int, int], list[list[float]]]] | None = None) -> Path:
    """Write the data set (PNG; the splits differ in their grey only) and return its YAML."""
    for split, grey in (("train", 110), ("val", 112)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i, (shape, rows) in enumerate(IMAGES if images is None else images):
            cv2.imwrite(str(root / "images" / split / f"{i:03d}.png"), draw(shape, rows, grey))
            text = "".join(" ".join(f"{v:g}" for v in row) + "\n" for row in rows)
            (root / "labels" / split / f"{i:03d}.txt").write_text(text)
    names = "".join(f"  {i}: {n}\n" for i, n in NAMES.items())
    yaml = root / "data.yaml"
    yaml.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return yaml


class Oracle(nn.Module):
    """Stands in for a loaded model: answers the images it is shown, in order, with prepared rows.

    Each answer is (n, 6): cx, cy, w, h in 0..1, score, class.
    """

    fp16 = False
    stride = 32
    names = NAMES

    def __init__(self, answers: list[list[list[float]]]) -> None:
        super().__init__()
        self.answers = answers
        self.shown = 0

    def forward(self, im: torch.Tensor) -> torch.Tensor:
        answers = self.answers[self.shown : self.shown + len(im)]
        self.shown += len(im)
        k = max((len(a) for a in answers), default=0)
        out = torch.zeros(len(im), k, 6)
        for row, answer in zip(out, answers, strict=True):
            if answer:
                row[: len(answer)] = torch.tensor(answer)
        return out


def truth(score: float = 0.9) -> list[list[list[float]]]:
    """Return the answers of a perfect detector."""
    return [[[*row[1:], score, row[0]] for row in rows] for _, rows in IMAGES]


# A head of few queries without denoising, which learns the four images in a moment.
QUICK: dict[str, Any] = {
    **TINY,
    "head": [*TINY["head"][:-1], [[2, 3, 6], 1, "RTDETRDecoder", ["nc", 32, 12, 4, 4, 1, 64, 0.0, None, -1, 0]]],
}


def overfitted(steps: Sequence[int], imgsz: int = 64) -> list[RTDETRDetectionModel]:
    """Train on the drawn images; return the network as it is after each number of steps, in eval mode."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(QUICK, verbose=False)
    model.names = dict(NAMES)
    pictures = [cv2.resize(draw(shape, rows), (imgsz, imgsz))[..., ::-1].copy() for shape, rows in IMAGES]
    rows = [(float(i), row) for i, (_, rows) in enumerate(IMAGES) for row in rows]
    batch = {
        "img": torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255,  # (B, 3, H, W)
        "cls": torch.tensor([row[0] for _, row in rows]),
        "bboxes": torch.tensor([row[1:] for _, row in rows]),
        "batch_idx": torch.tensor([i for i, _ in rows]),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    kept = []
    for step in range(1, max(steps) + 1):
        model.train()
        optimizer.zero_grad()
        model.loss(batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step in steps:
            del model.criterion
            kept.append(copy.deepcopy(model).eval())
    return kept


@cache
def tiny_network() -> RTDETRDetectionModel:
    """The network of `TINY` that runs start from; built once, since building takes longer than a run."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(TINY, verbose=False)
    model.names = dict(NAMES)
    return model


FAST_RUN: dict[str, Any] = {
    **{"imgsz": 64, "batch": 2, "workers": 0, "epochs": 2, "device": "cpu"},
    **{"plots": False, "amp": False, "verbose": False},
}


class StandInTrainer(RTDETRTrainer):
    """Trains copies of `network`; a test may stand in for parts of a run that it is not about, by these attributes."""

    network: YamlModel | None = None
    metrics_of: Callable[[bool], tuple[dict[str, float], float | None]] | None = None
    """The metrics and the fitness of an epoch, given whether they are wanted."""
    seconds: Callable[[], float] | None = None
    """Seconds of training so far."""
    batches_cost_nothing = False
    """No batch is trained; epochs, rates and files are those of a real run."""

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> YamlModel:
        return super().get_model(cfg, weights, verbose) if self.network is None else copy.deepcopy(self.network)

    def _metrics_of_epoch(self, wanted: bool) -> tuple[dict[str, float], float | None]:
        return super()._metrics_of_epoch(wanted) if self.metrics_of is None else self.metrics_of(wanted)

    def _elapsed(self) -> float:
        return super()._elapsed() if self.seconds is None else self.seconds()

    def _train_epoch(self) -> None:
        if self.batches_cost_nothing:
            self.tloss = [0.0] * 3
        else:
            super()._train_epoch()


def small_trainer(data: Path, folder: Path, **changes: Any) -> StandInTrainer:
    """A trainer of `TINY` on a data set, whose run goes to `folder/run`; it skips the validation of the best weights.

    A resumed run takes data and folder from its checkpoint.
    """
    given = {} if changes.get("resume") else {"data": str(data), "project": str(folder), "name": "run"}
    trainer = StandInTrainer(overrides={**FAST_RUN, **given, **changes})
    trainer.network = trainer.get_model(TINY, verbose=False) if trainer.data["nc"] != 3 else tiny_network()
    trainer.model = trainer.get_model()
    trainer.final_val = False
    return trainer


def in_threads(*calls: Callable[[], Any]) -> None:
    """Run all at once, changing between them as often as may be; raise what the first that failed raised."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            for job in [pool.submit(call) for call in calls]:
                job.result()
    finally:
        sys.setswitchinterval(interval)


class OraclePredictor(RTDETRPredictor):
    """Takes the oracle as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


def predict_args(tmp: Path, **more: Any) -> dict[str, Any]:
    """Arguments of a prediction whose run folder is `tmp/p`."""
    return {
        "imgsz": 64, "batch": 1, "save": False, "device": "cpu", "mode": "predict", "project": str(tmp), "name": "p",
        **more,
    }  # fmt: skip


def oracle(tmp: Path, answers: Any = None, **more: Any) -> OraclePredictor:
    """A predictor that gives the answers in turn, by default the labels of the data set."""
    predictor = OraclePredictor(overrides=predict_args(tmp, **more))
    predictor.setup_model(Oracle(truth() if answers is None else answers))
    return predictor


def write_video(path: Path, frames: int, shape: tuple[int, int] = (48, 64)) -> Path:
    """Write frames of grey, one brighter than the other."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (shape[1], shape[0]))
    for i in range(frames):
        writer.write(np.full((*shape, 3), 10 * i % 256, np.uint8))
    writer.release()
    return path
