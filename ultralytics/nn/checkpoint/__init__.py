"""Checkpoint files: read as data, written whole, converted from and to the layouts of other projects."""

from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint

__all__ = ["pack_model", "read_checkpoint", "save_checkpoint"]
