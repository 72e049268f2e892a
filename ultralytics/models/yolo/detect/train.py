"""Training of the YOLO family."""

from __future__ import annotations

import torch

from ultralytics.cfg import Args
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.labels.table import LabelTable
from ultralytics.engine.training.optimizer import OptimizerChoice
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect.val import DetectionValidator, takes_any_shape
from ultralytics.nn.tasks import YOLODetectionModel
from ultralytics.nn.yolo import choose_branch
from ultralytics.utils.torch_utils import unwrap_model


class DetectionTrainer(RTDETRTrainer):
    """Train a YOLO detector; the gains `box`, `cls` and `dfl` and the class weights by `cls_pw` act.

    trainer = DetectionTrainer(overrides={"model": "yolo11n.yaml", "data": "data.yaml", "epochs": 50})
    metrics = trainer.train()
    """

    loss_names = ("box_loss", "cls_loss", "dfl_loss")
    long_run_choice = OptimizerChoice("MuSGD", 0.01, 0.9, 0.0)  # as the interface has it
    shared_validation = False  # batches by aspect ratio cannot be shared among processes

    def dataset_args(self, mode: str) -> Args:
        """Return the arguments of a data set; evaluated ones come in batches of one aspect ratio."""
        return self.args if mode == "train" else self.args.replace(rect=takes_any_shape(self.model, self.args))

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
