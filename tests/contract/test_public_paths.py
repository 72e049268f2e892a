"""Names that user code imports, from the paths where it looks for them.

Scripts, notebooks and forks that were written for the `ultralytics` interface rely on these; a move inside the package
must leave a re-export behind.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

PATHS = {
    "ultralytics": "RTDETR YOLO SHViTClassifier settings checks ASSETS download convert doctor show __version__",
    "ultralytics.cli": "entrypoint parse_overrides user_errors",
    "ultralytics.models": "RTDETR SHViTClassifier YOLO",
    "ultralytics.models.yolo": "YOLO",
    "ultralytics.models.yolo.model": "YOLO",
    "ultralytics.models.yolo.detect": "DetectionTrainer DetectionValidator DetectionPredictor",
    "ultralytics.models.yolo.detect.train": "DetectionTrainer",
    "ultralytics.models.yolo.detect.val": "DetectionValidator",
    "ultralytics.models.yolo.detect.predict": "DetectionPredictor",
    "ultralytics.models.shvit": "SHViTClassifier ClassificationTrainer ClassificationValidator ClassificationPredictor",
    "ultralytics.models.rtdetr": "RTDETR RTDETRPredictor RTDETRValidator",
    "ultralytics.models.rtdetr.model": "RTDETR",
    "ultralytics.models.rtdetr.train": "RTDETRTrainer",
    "ultralytics.models.rtdetr.val": "RTDETRDataset RTDETRValidator",
    "ultralytics.models.rtdetr.predict": "RTDETRPredictor",
    "ultralytics.models.utils.loss": "DETRLoss RTDETRDetectionLoss",
    "ultralytics.models.utils.ops": "HungarianMatcher get_cdn_group",
    "ultralytics.engine.model": "Model",
    "ultralytics.engine.trainer": "BaseTrainer",
    "ultralytics.engine.validator": "BaseValidator",
    "ultralytics.engine.predictor": "BasePredictor",
    "ultralytics.engine.results": "Results Boxes Probs",
    "ultralytics.nn": "register",
    "ultralytics.nn.tasks": "BaseModel ClassificationModel DetectionModel RTDETRDetectionModel parse_model "
    "yaml_model_load guess_model_scale guess_model_task load_checkpoint",
    "ultralytics.nn.autobackend": "AutoBackend",
    "ultralytics.nn.modules": "Conv Conv2 LightConv DWConv DWConvTranspose2d ConvTranspose Focus GhostConv RepConv "
    "ChannelAttention SpatialAttention CBAM Concat Index HGStem HGBlock ResNetLayer RepC3 Bottleneck C1 C2 C2f C3 SPP "
    "SPPF AIFI MLP TransformerEncoderLayer MSDeformAttn DeformableTransformerDecoderLayer DeformableTransformerDecoder "
    "RTDETRDecoder SHSA Conv2d_BN BN_Linear FFN PatchMerging BasicBlock SHViT CCRI RepC4 "
    "Detect v10Detect C3k2 C2fCIB A2C2f RepNCSPELAN4",
    "ultralytics.nn.modules.conv": "Conv autopad RepConv",
    "ultralytics.nn.modules.block": "HGStem HGBlock RepC3 C2f C3k2 C3Ghost GhostBottleneck BottleneckCSP C2fCIB A2C2f "
    "RepNCSPELAN4 ELAN1 AConv ADown SPPELAN C2PSA C2fPSA C3TR C3x DFL Proto RepVGGDW CIB",
    "ultralytics.nn.modules.transformer": "AIFI MSDeformAttn TransformerBlock TransformerLayer",
    "ultralytics.nn.modules.head": "RTDETRDecoder",
    "ultralytics.nn.modules.shsa": "SHSA SHViT",
    "ultralytics.nn.modules.utils": "inverse_sigmoid bias_init_with_prob multi_scale_deformable_attn_pytorch",
    "ultralytics.data.convert": "convert",
    "ultralytics.data.doctor": "Finding preflight",
    "ultralytics.data": "YOLODataset build_dataloader build_yolo_dataset load_inference_source",
    "ultralytics.data.utils": "IMG_FORMATS VID_FORMATS check_det_dataset img2label_paths",
    "ultralytics.data.augment": "Compose LetterBox Mosaic MixUp RandomPerspective RandomHSV RandomFlip Format",
    "ultralytics.cfg": "get_cfg get_save_dir entrypoint TASKS MODES",
    "ultralytics.utils": "LOGGER ROOT ASSETS YAML colorstr IterableSimpleNamespace TQDM DEFAULT_CFG "
    "DEFAULT_CFG_DICT SETTINGS",
    "ultralytics.utils.checks": "check_imgsz check_file check_yaml check_suffix collect_system_info",
    "ultralytics.utils.files": "increment_path file_size",
    "ultralytics.utils.downloads": "download",
    "ultralytics.utils.ops": "xyxy2xywh xywh2xyxy xywhn2xyxy xyxy2xywhn clip_boxes scale_boxes Profile",
    "ultralytics.utils.metrics": "bbox_iou box_iou bbox_ioa compute_ap ap_per_class Metric DetMetrics "
    "ClassifyMetrics ConfusionMatrix",
    "ultralytics.utils.loss": "FocalLoss VarifocalLoss DFLoss v8DetectionLoss E2ELoss",
    "ultralytics.utils.tal": "TaskAlignedAssigner make_anchors dist2bbox bbox2dist",
    "ultralytics.utils.nms": "non_max_suppression",
    "ultralytics.optim": "MuSGD",
    "ultralytics.utils.instance": "Bboxes Instances",
    "ultralytics.utils.plotting": "Annotator Colors colors plot_images plot_labels plot_results",
    "ultralytics.utils.torch_utils": "ModelEMA EarlyStopping select_device init_seeds autocast unwrap_model "
    "de_parallel fuse_conv_and_bn get_num_params get_num_gradients get_flops time_sync intersect_dicts copy_attr",
}


@pytest.mark.parametrize("module", PATHS)
def test_names_are_where_users_look(module: str) -> None:
    loaded = importlib.import_module(module)
    missing = [name for name in PATHS[module].split() if not hasattr(loaded, name)]
    assert not missing


@pytest.mark.parametrize("module", ["ultralytics", "ultralytics.models", "ultralytics.cfg", "ultralytics.utils"])
def test_lazy_doors_refuse_what_is_not_there(module: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(module).no_such_name


def test_both_ways_lead_to_one_class() -> None:
    import ultralytics
    from ultralytics.models import RTDETR

    assert ultralytics.RTDETR is RTDETR


def test_signatures_that_callers_spell_out() -> None:
    from ultralytics.engine.results import Results
    from ultralytics.nn.tasks import RTDETRDetectionModel
    from ultralytics.utils.torch_utils import select_device

    assert list(inspect.signature(RTDETRDetectionModel.__init__).parameters)[1:5] == ["cfg", "ch", "nc", "verbose"]
    assert list(inspect.signature(Results.__init__).parameters)[1:5] == ["orig_img", "path", "names", "boxes"]
    assert list(inspect.signature(select_device).parameters) == ["device", "batch", "newline", "verbose"]


@pytest.mark.parametrize(
    "command", [["-m", "ultralytics"], ["-c", "from ultralytics.cfg import entrypoint; entrypoint()"]]
)
def test_the_command_line_has_several_doors(command: list[str]) -> None:
    import ultralytics

    done = subprocess.run([sys.executable, *command, "version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ultralytics.__version__)
