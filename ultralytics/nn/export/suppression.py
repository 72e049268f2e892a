"""Non-maximum suppression inside an exported graph: a network of the YOLO family whose rows come out final.

Shapes: B batch, A anchors, N candidates of an image, K rows of an image. Boxes in pixels of the input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from ultralytics.nn.modules.utils import sym_min
from ultralytics.utils.ops import xywh2xyxy

__all__ = ("SuppressedForm", "Suppression")

CANDIDATES = 3000  # of an image that are compared with each other: those with the best scores


class Suppression(NamedTuple):
    """What is fixed in the graph: lowest score, overlap, most rows, and whether boxes of all classes are compared."""

    conf: float
    iou: float
    max_det: int
    agnostic: bool


class SuppressedForm(nn.Module):
    """A network that gives (B, 4 + nc, A), followed by suppression; gives rows (B, K, 6), best first.

    A row is x1, y1, x2, y2, score, class. Rows that were suppressed, or score no more than `conf`, have score 0. An
    anchor gives its best class alone.
    """

    def __init__(self, form: nn.Module, options: Suppression) -> None:
        super().__init__()
        self.form, self.options = form, options

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to rows (B, K, 6)."""
        y = self.form(images)
        best, label = y[:, 4:].max(1)  # (B, A)
        score, anchor = best.topk(sym_min(CANDIDATES, best.shape[1]), 1)  # (B, N)
        boxes = xywh2xyxy(y[:, :4].transpose(1, 2)).gather(1, anchor[..., None].expand(-1, -1, 4))  # (B, N, 4)
        rows = torch.cat((boxes, score[..., None], label.gather(1, anchor)[..., None].to(boxes.dtype)), -1)
        return torch.stack([self._kept(image) for image in rows.unbind(0)])

    def _kept(self, rows: Tensor) -> Tensor:
        """The rows (K, 6) that remain of an image's candidates (N, 6)."""
        conf, iou, max_det, agnostic = self.options
        boxes, score, label = rows[:, :4], rows[:, 4], rows[:, 5]
        span = boxes.max() - boxes.min() + 1
        apart = boxes if agnostic else boxes + label[:, None] * span
        keep = nms(apart, score, iou)
        kept = torch.zeros_like(score).scatter(0, keep, torch.ones_like(score).gather(0, keep))
        score = score * kept * (score > conf)
        value, index = score.topk(sym_min(max_det, score.shape[0]))
        return torch.cat((boxes[index], value[:, None], label[index][:, None]), 1)
