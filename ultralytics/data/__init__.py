"""Data sets, augmentation, loaders and inference sources."""

from ultralytics.data.base import BaseDataset
from ultralytics.data.build import EpochSampler, build_dataloader, build_yolo_dataset, load_inference_source
from ultralytics.data.dataset import YOLODataset

__all__ = [
    "BaseDataset",
    "EpochSampler",
    "YOLODataset",
    "build_dataloader",
    "build_yolo_dataset",
    "load_inference_source",
]
