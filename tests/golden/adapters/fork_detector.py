"""Our RT-DETR detector with what the forks of release 8.0.x do on maps that are not square, for their golden numbers.

The whole networks of the `blocks` set ran in such a fork on images of 64 x 96 and 96 x 64. Three of its properties are
defects that ours does not repeat; there the numbers are met only with them:

* AIFI: the position table is laid out for the transposed map, so tokens get the embedding of other places.
* Anchors: the centres are divided by the height and width in exchange.
* Query selection: invalid anchors are not excluded; their features are zero.

Everything else is the class under test. On square maps the first two make no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.query_head import Anchors
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.tasks import RTDETRDetectionModel as OurModel


class _ForkAIFI(AIFI):
    def _positions(self, w: int, h: int, dim: int, like: Tensor) -> Tensor:
        return self.build_2d_sincos_position_embedding(h, w, dim, like=like)


class _ForkDecoder(RTDETRDecoder):
    @staticmethod
    def _generate_anchors(
        shapes: Sequence[Sequence[int]],
        grid_size: float = 0.05,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        eps: float = 1e-2,
    ) -> Anchors:
        parts = []
        for level, (h, w) in enumerate(shapes):
            x = ((torch.arange(w, dtype=dtype) + 0.5) / h).expand(h, w)
            y = ((torch.arange(h, dtype=dtype) + 0.5) / w)[:, None].expand(h, w)
            side = torch.full((h, w), grid_size * 2.0**level, dtype=dtype)
            parts.append(torch.stack((x, y, side, side), -1).flatten(0, 1))  # (H*W, 4)
        boxes = torch.cat(parts)[None].to(device)  # (1, N, 4)
        valid = ((boxes > eps) & (boxes < 1 - eps)).all(-1, keepdim=True)
        logits = torch.log(boxes / (1 - boxes)).masked_fill(~valid, torch.inf)
        return Anchors(logits, valid, boxes.shape[1])

    def _get_decoder_input(
        self, feats: Tensor, anchors: Anchors, queries: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return super()._get_decoder_input(feats * anchors.valid, anchors, queries)


class RTDETRDetectionModel(OurModel):
    """The detector under test with the fork's defects on maps that are not square."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if type(module) is AIFI:
                module.__class__ = _ForkAIFI
            elif type(module) is RTDETRDecoder:
                module.__class__ = _ForkDecoder
        _ForkAIFI.__name__, _ForkDecoder.__name__ = "AIFI", "RTDETRDecoder"  # the cases record class names
