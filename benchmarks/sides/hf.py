"""The measured end of Hugging Face's RT-DETR R50 and D-FINE-S: the network, as its configuration has it, on noise."""

from __future__ import annotations

import serve
import torch
from steps import targets, train_in_turns
from transformers import RTDetrConfig, RTDetrForObjectDetection


def dfine_s() -> torch.nn.Module:
    """D-FINE-S: HGNetv2-B0 with learnable affine steps, three decoder layers."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        embedding_size=16,
        hidden_sizes=[64, 256, 512, 1024],  # what the encoder takes as the channels of the maps
        depths=[1, 1, 2, 1],
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3, 3, 3, 3],
        use_learnable_affine_block=True,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = DFineConfig(
        backbone_config=backbone,
        encoder_in_channels=[256, 512, 1024],
        decoder_layers=3,
        depth_mult=0.34,
        hidden_expansion=0.5,
        decoder_n_points=[3, 6, 3],
        freeze_backbone_batch_norms=False,
        num_labels=80,
    )
    return DFineForObjectDetection(config)


def forward(turns: serve.Turns, imgsz: int, batch: int, bf16: bool = False, name: str = "rtdetr-r50") -> None:
    """The network alone, in eval mode; `bf16` by autocast."""
    model = (dfine_s() if name == "dfine-s" else RTDetrForObjectDetection(RTDetrConfig())).eval()
    x = torch.rand(batch, 3, imgsz, imgsz)

    def work() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(pixel_values=x)

    turns.repeat(work, parameters=sum(p.numel() for p in model.parameters()))


def step(turns: serve.Turns, imgsz: int, batch: int, bf16: bool = False) -> None:
    """A training step of D-FINE-S on one batch: loss, gradients, clipping, AdamW."""
    model = dfine_s().train()
    x = torch.rand(batch, 3, imgsz, imgsz)
    labels = [{"class_labels": cls, "boxes": boxes} for cls, boxes in targets(batch)]
    train_in_turns(turns, model, lambda: model(pixel_values=x, labels=labels).loss, bf16)


if __name__ == "__main__":
    serve.main({"forward": forward, "step": step})
