"""The table of arguments: one typed row each. `default.yaml` and `args.py` are written from it (`cfg/generate.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.cfg.keys import Trait as T
from ultralytics.cfg.table_own import OWN

TASKS: tuple[str, ...] = ("detect", "classify")
MODES: tuple[str, ...] = ("train", "val", "predict")

_SEGMENT = "segmentation only"
_POSE = "pose estimation only"
_DEPTH = "depth estimation only"
_GAINS = "RT-DETR's loss gains are fixed (class 1, L1 5, GIoU 2), as in its paper"
_NO_WEIGHTS = "RT-DETR's loss has no class weights"
_NO_NMS = "RT-DETR has no non-maximum suppression"

_AUGMENT = T.AUGMENT | T.RESUME

GROUPS: Mapping[str, tuple[Key, ...]] = MappingProxyType(
    {
        "What to do": (
            Key("task", k.WORD, "detect", "kind of task", choices=TASKS, traits=T.SELECTS | T.INFO | T.EVERY_MODE),
            Key("mode", k.WORD, "train", "what to do with the model", choices=MODES, traits=T.SELECTS),
        ),
        "Training run": (
            Key(
                "model",
                k.PATH,
                None,
                "model YAML or weights file",
                nullable=True,
                traits=T.SELECTS | T.INFO | T.EVERY_MODE,
            ),
            Key(
                "data",
                k.PATH,
                None,
                "data set YAML; for classify a folder of class folders",
                nullable=True,
                traits=T.RESUME | T.WEIGHTS | T.SHOWN | T.EXPORT_VAL | T.EVERY_MODE,
            ),
            Key("epochs", k.INT, 100, "passes over the training images", low=1, traits=T.RESUME | T.SHOWN),
            Key(
                "time",
                k.FLOAT,
                None,
                "hours to train; the number of epochs follows from it",
                low=0,
                high=10**6,
                nullable=True,
                traits=T.RESUME,
            ),
            Key(
                "patience",
                k.INT,
                100,
                "stop after this many epochs without a better fitness; 0 never stops",
                low=0,
                traits=T.RESUME,
            ),
            Key(
                "batch",
                k.BATCH,
                16,
                "images a step, over all processes; -1 or a fraction of GPU memory: automatic",
                traits=T.RESUME | T.SHOWN | T.EVERY_MODE,
            ),
            Key(
                "imgsz",
                k.IMGSZ,
                640,
                "side of the network's input in px; [h, w] for prediction",
                traits=T.RESUME | T.WEIGHTS | T.SHOWN | T.INFO | T.EVERY_MODE,
            ),
            Key("save", k.BOOL, True, "write checkpoints (train) or annotated media (predict)"),
            Key(
                "save_period",
                k.INT,
                -1,
                "also keep a checkpoint every so many epochs; -1 does not",
                low=-1,
                traits=T.RESUME | T.SAME_RESULT,
            ),
            Key(
                "cache",
                k.CACHE,
                False,
                "keep decoded images in memory ('ram', true) or on disk ('disk')",
                traits=T.RESUME,
            ),
            Key(
                "device",
                k.DEVICE,
                None,
                "cpu, mps, 0, 0,1; null: GPU 0 where there is one",
                nullable=True,
                traits=T.RESUME | T.REBUILD | T.EVERY_MODE | T.SAME_RESULT,
            ),
            Key(
                "workers",
                k.INT,
                8,
                "loader processes for each training process",
                low=0,
                high=512,
                traits=T.RESUME | T.EXPORT_VAL | T.EVERY_MODE | T.SAME_RESULT,
            ),
            Key(
                "project",
                k.TEXT,
                None,
                "parent folder of runs; null: runs/<task>",
                nullable=True,
                traits=T.PLACE | T.EVERY_MODE,
            ),
            Key(
                "name", k.TEXT, None, "folder of this run; null: the mode", nullable=True, traits=T.PLACE | T.EVERY_MODE
            ),
            Key(
                "exist_ok",
                k.BOOL,
                False,
                "write into an existing run folder instead of a new numbered one",
                traits=T.PLACE | T.EVERY_MODE,
            ),
            Key(
                "pretrained",
                k.SWITCH_OR_PATH,
                True,
                "start from loaded weights, from this file, or (false) from random weights",
            ),
            Key("cls_remap", k.BOOL, True, "when weights are loaded, copy class rows by class name"),
            Key(
                "optimizer",
                k.WORD,
                "auto",
                "optimizer; auto: AdamW, with a learning rate for the data unless lr0 is given",
                choices=("SGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "auto"),
                traits=T.SHOWN,
            ),
            Key(
                "verbose",
                k.BOOL,
                True,
                "more in the log; the table of classes in validation",
                traits=T.RESUME | T.EVERY_MODE | T.SAME_RESULT,
            ),
            Key("seed", k.INT, 0, "base of all random numbers", low=0, traits=T.SHOWN),
            Key("deterministic", k.BOOL, True, "ask for reproducible algorithms"),
            Key(
                "single_cls", k.BOOL, False, "treat all classes as one", only="detect", traits=T.WEIGHTS | T.EXPORT_VAL
            ),
            Key("rect", k.BOOL, False, "batches by aspect ratio", inert="RT-DETR takes square inputs"),
            Key(
                "cos_lr",
                k.BOOL,
                False,
                "cosine decay of the learning rate instead of a linear one; lr_schedule has precedence",
            ),
            Key(
                "close_mosaic",
                k.COUNT,
                10,
                "last epochs without mosaic, mixup, cutmix and the like; 0 keeps them",
                low=0,
                only="detect",
                traits=T.RESUME,
            ),
            Key(
                "resume",
                k.SWITCH_OR_PATH,
                False,
                "resume the newest run, or the run of this last.pt",
                traits=T.SELECTS | T.ONE_RUN,
            ),
            Key(
                "amp",
                k.AMP,
                True,
                "mixed precision: true picks bf16 where native, else fp16 on a GPU",
                traits=T.REBUILD | T.EVERY_MODE,
            ),
            Key("fraction", k.FRACTION, 1.0, "ratio or number of the training images; [train, val] for both"),
            Key(
                "profile",
                k.BOOL,
                False,
                "time the parts of a training step in the first epoch: table, profile.csv",
                traits=T.RESUME | T.SAME_RESULT,
            ),
            Key("freeze", k.LAYERS, None, "freeze the first N layers, or the named ones", nullable=True),
            Key("multi_scale", k.UNIT, 0.0, "vary the size of each batch by up to this ratio of imgsz", only="detect"),
            Key(
                "compile",
                k.SWITCH_OR_WORD,
                False,
                "use torch.compile; a string is its mode",
                inert_in={
                    "train": "denoising changes the shapes of each step, so networks are compiled for val and predict"
                },
                traits=T.REBUILD | T.EVERY_MODE,
            ),
            Key(
                "channels_last",
                k.BOOL,
                None,
                "memory layout NHWC; null: where it is faster",
                nullable=True,
                traits=T.RESUME | T.REBUILD | T.EVERY_MODE,
            ),
            Key("overlap_mask", k.BOOL, True, "masks may overlap", inert=_SEGMENT),
            Key("mask_ratio", k.INT, 4, "mask downsampling", low=1, inert=_SEGMENT),
            Key("dropout", k.UNIT, 0.0, "dropout of the classification head", only="classify"),
        ),
        "Validation": (
            Key("val", k.BOOL, True, "validate after each epoch", traits=T.RESUME),
            Key(
                "split",
                k.WORD,
                "val",
                "part of the data set to evaluate",
                choices=("train", "val", "test"),
                traits=T.EXPORT_VAL,
            ),
            Key(
                "save_json",
                k.BOOL,
                False,
                "write predictions in COCO's JSON format",
                only="detect",
                inert_in={
                    "predict": "val writes predictions.json; in predict use save_txt=True, or to_json() of the results"
                },
            ),
            Key(
                "conf",
                k.UNIT,
                None,
                "lowest score kept; null: 0.25 in predict, 0.001 in val",
                nullable=True,
                only="detect",
            ),
            Key(
                "iou",
                k.UNIT,
                0.7,
                "overlap of suppression",
                foreign=_NO_NMS,
                only="detect",
                traits=T.SUPPRESSION | T.EXPORT_VAL,
            ),
            Key("max_det", k.INT, 300, "most detections an image", low=1, only="detect", traits=T.EXPORT_VAL),
            Key(
                "quantize",
                k.PRECISION,
                None,
                "bits of inference and export: 8, 16 or 32",
                nullable=True,
                traits=T.REBUILD | T.EVERY_MODE,
            ),
            Key("dnn", k.BOOL, False, "run ONNX files by OpenCV", inert="ONNX files run by ONNX Runtime"),
            Key("plots", k.BOOL, True, "draw figures in training and validation", traits=T.RESUME | T.SAME_RESULT),
            Key("nms", k.BOOL, None, "suppression in the exported file", nullable=True, inert=_NO_NMS),
        ),
        "Prediction": (
            Key("source", k.SOURCE, None, "image, video, folder, glob, list file, URL or camera", nullable=True),
            Key("vid_stride", k.INT, 1, "take every Nth frame of a video", low=1, high=10**6),
            Key("stream_buffer", k.BOOL, False, "queue all frames of a stream instead of dropping late ones"),
            Key(
                "visualize",
                k.BOOL,
                False,
                "write activation maps",
                inert="activation maps are not written; `yolo heatmap` explains predictions",
            ),
            Key(
                "augment",
                k.BOOL,
                False,
                "fuse several views of an image, in val and predict",
                inert_in={"train": "it fuses views in val and predict; training has mosaic, fliplr and the others"},
                only="detect",
            ),
            Key(
                "agnostic_nms",
                k.BOOL,
                False,
                "suppression across classes",
                foreign=_NO_NMS,
                only="detect",
                traits=T.SUPPRESSION | T.EXPORT_VAL,
            ),
            Key("classes", k.CLASSES, None, "keep only these classes", nullable=True, only="detect"),
            Key("retina_masks", k.BOOL, False, "masks at full size", inert=_SEGMENT),
            Key("embed", k.INTS, None, "return feature vectors of these layers", nullable=True),
        ),
        "What predictions show and save": (
            Key("show", k.BOOL, False, "open a window"),
            Key("save_frames", k.BOOL, False, "write single frames of a predicted video"),
            Key("save_txt", k.BOOL, False, "write label files"),
            Key("save_conf", k.BOOL, False, "add scores to the label files"),
            Key("save_crop", k.BOOL, False, "write a cut-out of each detection", only="detect"),
            Key("show_labels", k.BOOL, True, "draw class names"),
            Key("show_conf", k.BOOL, True, "draw scores"),
            Key("show_boxes", k.BOOL, True, "draw boxes", only="detect"),
            Key(
                "line_width",
                k.INT,
                None,
                "width of box lines in px; null: by image size",
                low=1,
                high=1000,
                nullable=True,
            ),
        ),
        "Export": (
            Key("format", k.WORD, "torchscript", "target format"),
            Key("optimize", k.BOOL, False, "vendor compiler switch", inert="no target here uses it"),
            Key("dynamic", k.BOOL, False, "shapes may vary"),
            Key("simplify", k.BOOL, True, "simplify the ONNX graph"),
            Key(
                "opset",
                k.INT,
                None,
                "ONNX operator set, 16 or newer; null: 17",
                raised="RT-DETR samples with grid_sample, an operator of set 16",
                low=16,
                nullable=True,
            ),
            Key("workspace", k.FLOAT, None, "GiB that TensorRT may use", low=0, nullable=True),
        ),
        "Optimisation": (
            Key("lr0", k.UNIT, 0.01, "learning rate at the start", traits=T.SHOWN | T.OPTIMIZER),
            Key("lrf", k.UNIT, 0.01, "final learning rate as a ratio of lr0"),
            Key("momentum", k.UNIT, 0.937, "momentum of SGD, first beta of Adam", traits=T.OPTIMIZER),
            Key("weight_decay", k.UNIT, 0.0005, "decay of weights; biases and norms have none"),
            Key("warmup_epochs", k.FLOAT, 3.0, "length of the warm-up in epochs", low=0, high=10**6),
            Key("warmup_momentum", k.UNIT, 0.8, "momentum at its start"),
            Key("warmup_bias_lr", k.UNIT, 0.1, "rate of biases at its start"),
            Key("distill_model", k.PATH, None, "weights of a teacher to learn from", nullable=True, only="classify"),
            Key("dis", k.FLOAT, 6.0, "gain of the distillation loss", only="classify"),
            Key("box", k.FLOAT, 7.5, "box gain", low=0, foreign=_GAINS, only="detect", traits=T.GAIN),
            Key("cls", k.FLOAT, 0.5, "class gain", low=0, foreign=_GAINS, only="detect", traits=T.GAIN),
            Key(
                "cls_pw",
                k.UNIT,
                0.0,
                "power of class weights; 1 gives all classes the same weight",
                foreign=_NO_WEIGHTS,
                traits=T.GAIN,
            ),
            Key("dfl", k.FLOAT, 1.5, "distribution gain", low=0, foreign=_GAINS, only="detect", traits=T.GAIN),
            Key("pose", k.FLOAT, 12.0, "pose gain", inert=_POSE),
            Key("kobj", k.FLOAT, 1.0, "keypoint objectness gain", inert=_POSE),
            Key("rle", k.FLOAT, 1.0, "keypoint likelihood gain", inert=_POSE),
            Key("angle", k.FLOAT, 1.0, "angle gain", inert="rotated boxes only"),
            Key("dlog", k.FLOAT, 1.0, "depth log gain", inert=_DEPTH),
            Key("dgrad", k.FLOAT, 0.5, "depth gradient gain", inert=_DEPTH),
            Key("dlam", k.UNIT, 1.0, "depth variance weight", inert=_DEPTH),
            Key(
                "nbs", k.INT, 64, "nominal batch: gradients are summed over round(nbs / batch) steps", low=1, high=10**6
            ),
        ),
        "Augmentation": (
            Key("hsv_h", k.UNIT, 0.015, "hue jitter", traits=_AUGMENT),
            Key("hsv_s", k.UNIT, 0.7, "saturation jitter", traits=_AUGMENT),
            Key("hsv_v", k.UNIT, 0.4, "brightness jitter", traits=_AUGMENT),
            Key("degrees", k.FLOAT, 0.0, "rotation, up to this many degrees either way", traits=_AUGMENT),
            Key("translate", k.UNIT, 0.1, "shift, as a ratio of the image", traits=_AUGMENT),
            Key(
                "scale",
                k.GAIN,
                0.5,
                "zoom by 1 +- this, or between two factors; a letter means model_scale",
                traits=_AUGMENT,
            ),
            Key("shear", k.FLOAT, 0.0, "shear in degrees either way", traits=_AUGMENT),
            Key("perspective", k.UNIT, 0.0, "perspective distortion", only="detect", traits=_AUGMENT),
            Key("flipud", k.UNIT, 0.0, "probability of a vertical flip", traits=_AUGMENT),
            Key("fliplr", k.UNIT, 0.5, "probability of a horizontal flip", traits=_AUGMENT),
            Key("bgr", k.UNIT, 0.0, "probability of swapped colour channels", only="detect", traits=_AUGMENT),
            Key("mosaic", k.UNIT, 1.0, "probability of four images in one", only="detect", traits=_AUGMENT),
            Key("mixup", k.UNIT, 0.0, "probability of blending two images", only="detect", traits=_AUGMENT),
            Key(
                "cutmix",
                k.UNIT,
                0.0,
                "probability of pasting a part of another image",
                only="detect",
                traits=_AUGMENT,
            ),
            Key(
                "copy_paste",
                k.UNIT,
                0.0,
                "ratio of objects copied by their outline (polygon labels)",
                only="detect",
                traits=_AUGMENT,
            ),
            Key(
                "copy_paste_mode",
                k.WORD,
                "flip",
                "where copies come from: the mirrored image, or another one",
                choices=("flip", "mixup"),
                only="detect",
                traits=_AUGMENT,
            ),
            Key("auto_augment", k.WORD, "randaugment", "augmentation policy", nullable=True, only="classify"),
            Key(
                "erasing",
                k.UNIT,
                0.4,
                "probability of erasing a patch; the recipes of detect set 0",
                traits=_AUGMENT,
            ),
        ),
        "More files": (
            Key(
                "cfg",
                k.PATH,
                None,
                "YAML of arguments; arguments given beside it win",
                nullable=True,
                traits=T.SELECTS | T.INFO | T.EVERY_MODE,
            ),
            Key("tracker", k.PATH, "tracktrack.yaml", "tracker YAML", inert="tracking is not available"),
        ),
        "Only here": OWN,
    }
)
"""Rows by group."""
