"""The arguments: one typed row each, with its default, bounds and meaning. `default.yaml` is written from these rows.

To add an argument: add a row, call `write_default_yaml`, and read the argument where it acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ultralytics.cfg import kinds as k
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.files import atomic_write

TASKS: tuple[str, ...] = ("detect", "classify")
MODES: tuple[str, ...] = ("train", "val", "predict")


@dataclass(frozen=True)
class Key:
    """One argument.

    `low` and `high` bound numbers, `choices` lists the allowed words. An `inert` argument exists in the interface but
    does nothing here; the text says why, and a value other than the default is refused instead of being ignored. `only`
    names the one task that an argument serves; for another it is refused (`resolve.check_task`).
    """

    name: str
    kind: k.Kind
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    inert: str = ""
    only: str = ""

    def check(self, value: Any, origin: str = "") -> Any:
        """Return the value in its stored form.

        `origin` (a file and line, say) is added to the message of an error.

        Raises:
            ConfigTypeError: wrong type.
            ConfigError: outside the bounds, or a value for an inert argument.
        """
        where = f"\n(from {origin})" if origin else ""
        if value is None:
            if self.nullable:
                return None
            raise ConfigTypeError(f"{self.name} must not be null; give {self.bounds}{where}")
        try:
            result = self.kind.convert(value)
        except TypeError:
            raise ConfigTypeError(
                f"{self.name}={value!r} has the wrong type {type(value).__name__}; give {self.bounds}{where}"
            ) from None
        except ValueError:
            raise ConfigError(f"{self.name}={value!r} is not possible; give {self.bounds}{where}") from None
        result = self._choice(result)
        if not self._inside(result):
            raise ConfigError(f"{self.name}={value!r} is not possible; give {self.bounds}{where}")
        if self.inert and result != self.default:
            raise ConfigError(f"{self.name}={value!r} would have no effect: {self.inert}\nLeave it out.{where}")
        return result

    @property
    def bounds(self) -> str:
        """The allowed values in words."""
        text = f"one of {', '.join(self.choices)}" if self.choices else self.kind.words
        if self.low is not None and self.high is not None:
            text += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            text += f", at least {self.low:g}"
        return text + (", or null" if self.nullable else "")

    def _choice(self, value: Any) -> Any:
        """The choice as it is spelt here, whatever the letter case it was given in."""
        spelt = {c.lower(): c for c in self.choices}
        return spelt.get(value.lower(), value) if isinstance(value, str) else value

    def _inside(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return True


_SEGMENT = "segmentation only"
_POSE = "pose estimation only"
_DEPTH = "depth estimation only"
_GAINS = "RT-DETR's loss gains are fixed (class 1, L1 5, GIoU 2), as in its paper"
_NO_NMS = "RT-DETR has no non-maximum suppression"

GROUPS: Mapping[str, tuple[Key, ...]] = MappingProxyType(
    {
        "What to do": (
            Key("task", k.WORD, "detect", "kind of task", choices=TASKS),
            Key("mode", k.WORD, "train", "what to do with the model", choices=MODES),
        ),
        "Training run": (
            Key("model", k.PATH, None, "model YAML or weights file", nullable=True),
            Key("data", k.PATHS, None, "data set YAML; for classify a folder of class folders", nullable=True),
            Key("epochs", k.INT, 100, "passes over the training images", low=1),
            Key("time", k.FLOAT, None, "hours to train; the number of epochs follows from it", low=0, nullable=True),
            Key("patience", k.INT, 100, "stop after this many epochs without a better fitness; 0 never stops", low=0),
            Key("batch", k.BATCH, 16, "images a step, over all processes; -1 or a share of GPU memory: automatic"),
            Key("imgsz", k.IMGSZ, 640, "side of the network's input in px; [h, w] for prediction"),
            Key("save", k.BOOL, True, "write checkpoints (train) or annotated media (predict)"),
            Key("save_period", k.INT, -1, "also keep a checkpoint every so many epochs; -1 does not", low=-1),
            Key("cache", k.CACHE, False, "keep decoded images in memory ('ram', true) or on disk ('disk')"),
            Key("device", k.DEVICE, None, "cpu, mps, 0, 0,1; null: GPU 0 where there is one", nullable=True),
            Key("workers", k.INT, 8, "loader processes for each training process", low=0),
            Key("project", k.TEXT, None, "parent folder of runs; null: runs/<task>", nullable=True),
            Key("name", k.TEXT, None, "folder of this run; null: the mode", nullable=True),
            Key("exist_ok", k.BOOL, False, "write into an existing run folder instead of a new numbered one"),
            Key("pretrained", k.SWITCH_OR_PATH, True, "start from loaded weights, from this file, or (false) afresh"),
            Key("cls_remap", k.BOOL, True, "when weights are loaded, copy class rows by class name"),
            Key(
                "optimizer",
                k.WORD,
                "auto",
                "optimizer; auto: AdamW, with a rate fit for the data unless lr0 is given",
                choices=("SGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "auto"),
            ),
            Key("verbose", k.BOOL, True, "more in the log; the table of classes in validation"),
            Key("seed", k.INT, 0, "base of all random numbers", low=0),
            Key("deterministic", k.BOOL, True, "ask for reproducible algorithms"),
            Key("single_cls", k.BOOL, False, "treat all classes as one", only="detect"),
            Key("rect", k.BOOL, False, "batches by aspect ratio", inert="RT-DETR takes square inputs"),
            Key("cos_lr", k.BOOL, False, "let the rate fall on a cosine instead of a line; lr_schedule goes before it"),
            Key("close_mosaic", k.INT, 10, "last epochs without mosaic and its like; 0 keeps it", low=0, only="detect"),
            Key("resume", k.SWITCH_OR_PATH, False, "go on with the newest run, or with this last.pt"),
            Key("amp", k.AMP, True, "mixed precision: true picks bf16 where native, else fp16 on a GPU"),
            Key("fraction", k.FRACTION, 1.0, "share of the training images, or their number; [train, val] for both"),
            Key("profile", k.BOOL, False, "time the parts of a training step in the first epoch: table, profile.csv"),
            Key("freeze", k.LAYERS, None, "keep the first N layers, or the named ones, as they are", nullable=True),
            Key("multi_scale", k.UNIT, 0.0, "vary the size of each batch by up to this share of imgsz", only="detect"),
            Key("compile", k.SWITCH_OR_WORD, False, "use torch.compile, with this mode if a word"),
            Key("channels_last", k.BOOL, None, "memory layout NHWC; null: where it is faster", nullable=True),
            Key("overlap_mask", k.BOOL, True, "masks may overlap", inert=_SEGMENT),
            Key("mask_ratio", k.INT, 4, "mask downsampling", low=1, inert=_SEGMENT),
            Key("dropout", k.UNIT, 0.0, "dropout of the classification head", only="classify"),
        ),
        "Validation": (
            Key("val", k.BOOL, True, "validate after each epoch"),
            Key("split", k.WORD, "val", "part of the data set to evaluate", choices=("train", "val", "test")),
            Key("save_json", k.BOOL, False, "write predictions in COCO's JSON format", only="detect"),
            Key(
                "conf",
                k.UNIT,
                None,
                "lowest score kept; null: 0.25 in predict, 0.001 in val",
                nullable=True,
                only="detect",
            ),
            Key("iou", k.UNIT, 0.7, "overlap of suppression", inert=_NO_NMS),
            Key("max_det", k.INT, 300, "most detections an image", low=1, only="detect"),
            Key("quantize", k.PRECISION, None, "bits of inference and export: 8, 16 or 32", nullable=True),
            Key("dnn", k.BOOL, False, "run ONNX files by OpenCV", inert="ONNX files run by ONNX Runtime"),
            Key("plots", k.BOOL, True, "draw figures in training and validation"),
            Key("nms", k.BOOL, None, "suppression in the exported file", nullable=True, inert=_NO_NMS),
        ),
        "Prediction": (
            Key("source", k.SOURCE, None, "image, video, folder, glob, list file, address or camera", nullable=True),
            Key("vid_stride", k.INT, 1, "take every Nth frame of a video", low=1),
            Key("stream_buffer", k.BOOL, False, "queue all frames of a stream instead of dropping late ones"),
            Key("visualize", k.BOOL, False, "write activation maps"),
            Key("augment", k.BOOL, False, "fuse several views of an image, in val and predict", only="detect"),
            Key("agnostic_nms", k.BOOL, False, "suppression across classes", inert=_NO_NMS),
            Key("classes", k.INT_OR_INTS, None, "keep only these class indices", nullable=True, only="detect"),
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
            Key("line_width", k.INT, None, "width of box lines in px; null: by image size", low=1, nullable=True),
        ),
        "Export": (
            Key("format", k.WORD, "torchscript", "target format"),
            Key("optimize", k.BOOL, False, "vendor compiler switch", inert="no target here uses it"),
            Key("dynamic", k.BOOL, False, "shapes may vary"),
            Key("simplify", k.BOOL, True, "simplify the ONNX graph"),
            Key("opset", k.INT, None, "ONNX operator set, 16 or newer; null: 17", low=16, nullable=True),
            Key("workspace", k.FLOAT, None, "GiB that TensorRT may use", low=0, nullable=True),
        ),
        "Optimisation": (
            Key("lr0", k.UNIT, 0.01, "learning rate at the start"),
            Key("lrf", k.UNIT, 0.01, "share of lr0 that is left at the end"),
            Key("momentum", k.UNIT, 0.937, "momentum of SGD, first beta of Adam"),
            Key("weight_decay", k.UNIT, 0.0005, "decay of weights; biases and norms have none"),
            Key("warmup_epochs", k.FLOAT, 3.0, "length of the warm-up in epochs", low=0),
            Key("warmup_momentum", k.UNIT, 0.8, "momentum at its start"),
            Key("warmup_bias_lr", k.UNIT, 0.1, "rate of biases at its start"),
            Key("distill_model", k.PATH, None, "weights of a teacher to learn from", nullable=True, only="classify"),
            Key("dis", k.FLOAT, 6.0, "gain of the distillation loss", only="classify"),
            Key("box", k.FLOAT, 7.5, "box gain", inert=_GAINS),
            Key("cls", k.FLOAT, 0.5, "class gain", inert=_GAINS),
            Key("cls_pw", k.UNIT, 0.0, "power of class weights; 1 lets all classes count alike", only="classify"),
            Key("dfl", k.FLOAT, 1.5, "distribution gain", inert=_GAINS),
            Key("pose", k.FLOAT, 12.0, "pose gain", inert=_POSE),
            Key("kobj", k.FLOAT, 1.0, "keypoint objectness gain", inert=_POSE),
            Key("rle", k.FLOAT, 1.0, "keypoint likelihood gain", inert=_POSE),
            Key("angle", k.FLOAT, 1.0, "angle gain", inert="rotated boxes only"),
            Key("dlog", k.FLOAT, 1.0, "depth log gain", inert=_DEPTH),
            Key("dgrad", k.FLOAT, 0.5, "depth gradient gain", inert=_DEPTH),
            Key("dlam", k.UNIT, 1.0, "depth variance weight", inert=_DEPTH),
            Key("nbs", k.INT, 64, "nominal batch: gradients are summed over round(nbs / batch) steps", low=1),
        ),
        "Augmentation": (
            Key("hsv_h", k.UNIT, 0.015, "hue jitter"),
            Key("hsv_s", k.UNIT, 0.7, "saturation jitter"),
            Key("hsv_v", k.UNIT, 0.4, "brightness jitter"),
            Key("degrees", k.FLOAT, 0.0, "rotation, up to this many degrees either way"),
            Key("translate", k.UNIT, 0.1, "shift, as a share of the image"),
            Key("scale", k.GAIN, 0.5, "zoom by 1 +- this, or between two factors; a letter means model_scale"),
            Key("shear", k.FLOAT, 0.0, "shear in degrees either way"),
            Key("perspective", k.UNIT, 0.0, "perspective distortion", only="detect"),
            Key("flipud", k.UNIT, 0.0, "probability of a vertical flip"),
            Key("fliplr", k.UNIT, 0.5, "probability of a horizontal flip"),
            Key("bgr", k.UNIT, 0.0, "probability of swapped colour channels", only="detect"),
            Key("mosaic", k.UNIT, 1.0, "probability of four images in one", only="detect"),
            Key("mixup", k.UNIT, 0.0, "probability of blending two images", only="detect"),
            Key("cutmix", k.UNIT, 0.0, "probability of pasting a part of another image", only="detect"),
            Key("copy_paste", k.UNIT, 0.0, "share of objects copied by their outline (polygon labels)", only="detect"),
            Key(
                "copy_paste_mode",
                k.WORD,
                "flip",
                "where copies come from: the mirrored image, or another one",
                choices=("flip", "mixup"),
                only="detect",
            ),
            Key("auto_augment", k.WORD, "randaugment", "augmentation policy", nullable=True, only="classify"),
            Key("erasing", k.UNIT, 0.4, "probability of erasing a patch; the recipes of detect set 0"),
        ),
        "More files": (
            Key("cfg", k.PATH, None, "YAML of arguments; arguments given beside it win", nullable=True),
            Key("tracker", k.PATH, "tracktrack.yaml", "tracker YAML", inert="tracking is not available"),
        ),
        "Only here": (
            Key("allow_mismatch", k.BOOL, False, "keep an exported file that differs from its model"),
            Key("recipe", k.WORD, "auto", "set of training arguments: auto, or a file of cfg/recipes"),
            Key("backbone_lr_ratio", k.FLOAT, 1.0, "rate of the backbone as a multiple of lr0", low=0),
            Key("clip_norm", k.FLOAT, 0.1, "largest norm of all gradients together; 0 does not clip", low=0),
            Key("loss", k.WORD, "vfl", "classification loss", choices=("vfl", "mal", "focal"), only="detect"),
            Key("box_loss", k.WORD, "giou", "overlap term of the box loss", choices=("giou", "ciou"), only="detect"),
            Key(
                "aux_groups",
                k.INT,
                0,
                "further groups of queries in training, each matched alone",
                low=0,
                only="detect",
            ),
            Key("ema_decay", k.UNIT, 0.9999, "decay of the averaged weights"),
            Key("ema_warmup", k.FLOAT, 2000.0, "updates until that decay is nearly reached; 0: at once", low=0),
            Key(
                "lr_schedule",
                k.WORD,
                None,
                "course of the rate after the warm-up; null: linear, or cosine with cos_lr",
                choices=("linear", "cosine", "flat_cosine", "constant"),
                nullable=True,
            ),
            Key("photometric", k.UNIT, 0.0, "probability of each of SSD's colour distortions", only="detect"),
            Key("zoom_out", k.UNIT, 0.0, "probability of a canvas around the image, up to 4 x 4", only="detect"),
            Key("iou_crop", k.UNIT, 0.0, "probability of a crop that overlaps an object", only="detect"),
            Key("mosaic_n", k.TILES, 4, "images of a mosaic", only="detect"),
            Key("strict", k.BOOL, True, "stop at label rows of a wrong form or class; false leaves them out"),
            Key("sync_bn", k.BOOL, False, "batch norm statistics over all processes"),
            Key(
                "freeze_bn",
                k.FLOAT,
                0.0,
                "share of the last epochs in which batch norms keep their statistics",
                low=0,
                high=1,
            ),
            Key("activation_checkpointing", k.BOOL, False, "train in less memory: activations are computed twice"),
            Key("model_scale", k.WORD, None, "compound scale of the model YAML, a letter such as n", nullable=True),
            Key("modules", k.PATHS, None, "Python files with blocks of your own", nullable=True),
            Key(
                "letterbox",
                k.BOOL,
                False,
                "keep the aspect ratio and pad, instead of stretching to the square",
                only="detect",
            ),
            Key(
                "reduced_decode",
                k.BOOL,
                False,
                "train, val: decode large JPEGs at 1/2, 1/4 or 1/8 of their size where imgsz is left",
                only="detect",
            ),
            Key("ci", k.BOOL, False, "confidence intervals in val: bootstrap over images, seeded", only="detect"),
            Key(
                "smoothing",
                k.UNIT,
                0.0,
                "label smoothing: share of the target spread over all classes",
                only="classify",
            ),
            Key(
                "distill_type",
                k.WORD,
                "hard",
                "what is learnt from the teacher: its choice (hard) or its probabilities (soft)",
                choices=("hard", "soft"),
                only="classify",
            ),
        ),
    }
)

KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for group in GROUPS.values() for key in group})
"""Every argument by its name."""

UPSTREAM_KEYS = frozenset(key.name for title, group in GROUPS.items() if title != "Only here" for key in group)
"""The 113 names of the `ultralytics` interface."""

EXTRA_KEYS = frozenset({"save_dir"})
"""Names that are accepted without a row: set by a run for itself."""


def defaults() -> dict[str, Any]:
    """A fresh mapping of every argument to its default."""
    return {name: key.default for name, key in KEYS.items()}


def render_default_yaml() -> str:
    """The text of `default.yaml`: a line and a comment for each argument, by group."""
    lines = [
        "# Every argument with its default. Written from ultralytics/cfg/schema.py; change it there.",
        "# Copy this file with `yolo copy-cfg`, edit the copy and give it back with `cfg=default_copy.yaml`.",
    ]
    for title, keys in GROUPS.items():
        lines += ["", f"# {title}"]
        for key in keys:
            setting = YAML.dumps({key.name: key.default}).strip()
            shown = key.choices or key.kind in (k.INT, k.FLOAT, k.UNIT)
            note = f" [no effect: {key.inert}]" if key.inert else f" ({key.bounds})" if shown else ""
            note += f" [{key.only} only]" if key.only else ""
            lines.append(f"{setting}  # {key.meaning}{note}")
    return "\n".join(lines) + "\n"


def write_default_yaml() -> None:
    """Bring `default.yaml` up to date with the rows."""
    with atomic_write(DEFAULT_CFG_PATH) as f:
        f.write(render_default_yaml())
