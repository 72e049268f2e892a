"""The measured end of Hugging Face's RT-DETR R50: the network, as its configuration has it, on random images."""

from __future__ import annotations

import serve
import torch
from transformers import RTDetrConfig, RTDetrForObjectDetection


def forward(turns: serve.Turns, imgsz: int, batch: int, bf16: bool = False) -> None:
    """The network alone, in eval mode; `bf16` by autocast."""
    model = RTDetrForObjectDetection(RTDetrConfig()).eval()
    x = torch.rand(batch, 3, imgsz, imgsz)

    def work() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(pixel_values=x)

    turns.repeat(work, parameters=sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    serve.main({"forward": forward})
