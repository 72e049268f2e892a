"""Training of the YOLO family."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from ultralytics.cfg import Args
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.labels.table import LabelTable
from ultralytics.engine.training.optimizer import LONG_RUN
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect.val import DetectionValidator, takes_any_shape
from ultralytics.nn.tasks import YOLODetectionModel
from ultralytics.nn.yolo import choose_branch
from ultralytics.utils.torch_utils import unwrap_model

MUSGD_LR, MUSGD_MOMENTUM = 0.01, 0.9
"""Rate and momentum of MuSGD under `optimizer=auto`, as the interface has them."""


class DetectionTrainer(RTDETRTrainer):
    """Train a YOLO detector; the gains `box`, `cls` and `dfl` and the class weights by `cls_pw` act.

    trainer = DetectionTrainer(overrides={"model": "yolo11n.yaml", "data": "data.yaml", "epochs": 50})
    metrics = trainer.train()
    """

    loss_names = ("box_loss", "cls_loss", "dfl_loss")
    shared_validation = False  # batches by aspect ratio cannot be shared among processes

    def dataset_args(self, mode: str) -> Args:
        """Return the arguments of a data set; evaluated ones come in batches of one aspect ratio."""
        return self.args if mode == "train" else self.args.replace(rect=takes_any_shape(self.model, self.args))

    def build_optimizer(
        self,
        model: nn.Module,
        name: str = "auto",
        lr: float = 0.001,
        momentum: float = 0.9,
        decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> Optimizer:
        """Return the optimizer of a network; `auto` is MuSGD in a run of more than `LONG_RUN` optimizer steps."""
        if name.lower() == "auto" and iterations > LONG_RUN:
            keys = self.args.user_keys
            name, lr = "MuSGD", lr if "lr0" in keys else MUSGD_LR
            momentum = momentum if "momentum" in keys else MUSGD_MOMENTUM
            if "warmup_bias_lr" not in keys:
                self.args = self.args.replace(warmup_bias_lr=0.0)
        return super().build_optimizer(model, name, lr, momentum, decay, iterations)

    def set_model_attributes(self) -> None:
        """Settle the arguments, and let the average answer with the branch that `nms` chooses."""
        super().set_model_attributes()
        choose_branch(self.model, self.args.nms)

    def get_validator(self) -> DetectionValidator:
        """Return a validator on the loader of the evaluated split; the parts of the loss get the network's names."""
        super().get_validator()
        network = unwrap_model(self.model)
        if isinstance(network, YOLODetectionModel):
            self.loss_names = network.loss_names
        return DetectionValidator(self.test_loader, save_dir=self.save_dir, args=self.args, _callbacks=self.callbacks)

    def _setup_data(self) -> None:
        """Scan both splits, build their loaders, and weigh the classes by how often they are labelled."""
        super()._setup_data()
        dataset, network = self.train_loader.dataset, unwrap_model(self.model)
        if isinstance(dataset, YOLODataset) and isinstance(network, YOLODetectionModel):
            labels = torch.from_numpy(LabelTable.from_dicts(dataset.labels).cls.values[:, 0]).long()
            network.weigh_classes(torch.bincount(labels, minlength=network.nc), float(self.args.cls_pw))
