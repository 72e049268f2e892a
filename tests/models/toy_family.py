"""A detector family in one file: an anchor-free head of one class, its criterion, and the line that registers it.

Letters: B images, C channels, H x W map, N objects of all images, K cells of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.models.utils.targets import Targets
from ultralytics.nn.families import Family, register_family
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.nn.tasks import DetectionModel


def toy_rule(row: RowContext) -> Plan:
    """`[]` -> (channels of the inputs)."""
    return Plan((list(row.in_channels),), row.in_channels[-1])


@register(toy_rule, multi_input=True, is_head=True)
class ToyHead(nn.Module):
    """One box a cell: its offset from the cell's corner in cells, its size in 0..1, and the logit of an object."""

    export: bool = False
    nc = 1

    def __init__(self, ch: Sequence[int]) -> None:
        super().__init__()
        self.predict = nn.ModuleList(nn.Conv2d(c, 5, 1) for c in ch)

    def forward(self, x: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return cells (B, K, 5) as cx, cy, w, h in 0..1 and a logit; in evaluation rows (B, K, 6) beside them."""
        cells = torch.cat([self._decode(conv(level)) for conv, level in zip(self.predict, x, strict=True)], 1)
        if self.training:
            return cells
        score, order = cells[..., 4].sigmoid().topk(min(cells.shape[1], 100), 1)
        boxes = cells[..., :4].gather(1, order[..., None].expand(-1, -1, 4))  # (B, K, 4)
        rows = torch.cat([boxes, score[..., None], torch.zeros_like(score)[..., None]], -1)  # (B, K, 6)
        return rows if self.export else (rows, cells)

    @staticmethod
    def _decode(raw: Tensor) -> Tensor:
        h, w = raw.shape[2:]
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        corner = torch.stack([x, y]).to(raw)  # (2, H, W)
        centre = (corner + raw[:, :2].sigmoid()) / raw.new_tensor([w, h]).view(1, 2, 1, 1)
        return torch.cat([centre, raw[:, 2:4].sigmoid(), raw[:, 4:]], 1).flatten(2).transpose(1, 2)  # (B, K, 5)


class ToyLoss(nn.Module):
    """Cross entropy of all cells, L1 of those nearest to an object's centre."""

    def forward(self, preds: Tensor | tuple[Tensor, Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the total of a batch and its detached parts."""
        cells = preds[1] if isinstance(preds, tuple) else preds
        owner, boxes = targets["batch_idx"], targets["bboxes"]
        with torch.no_grad():
            cell = (cells[owner, :, :2] - boxes[:, None, :2]).abs().sum(-1).argmin(1)  # (N,)
        wanted = torch.zeros_like(cells[..., 4])
        wanted[owner, cell] = 1
        scores = F.binary_cross_entropy_with_logits(cells[..., 4], wanted, reduction="sum") / max(len(boxes), 1)
        distance = (cells[owner, cell, :4] - boxes).abs().sum() / max(len(boxes), 1)
        return scores + distance, torch.stack([distance, scores]).detach()


TOY = register_family(
    Family(
        name="toy",
        head=ToyHead,
        network=DetectionModel,
        criterion=lambda network: ToyLoss(),
        loss_names=("box_loss", "obj_loss"),
    )
)
