"""Rows of the arguments that only this package has, and of those without a default."""

from __future__ import annotations

from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.cfg.keys import Trait as T

_AUGMENT = T.AUGMENT | T.RESUME

OWN: tuple[Key, ...] = (
    Key("allow_mismatch", k.BOOL, False, "keep an exported file that differs from its model"),
    Key(
        "recipe",
        k.WORD,
        "auto",
        "set of training arguments: auto, or a file of cfg/recipes",
        traits=T.SELECTS | T.SHOWN,
    ),
    Key("backbone_lr_ratio", k.FLOAT, 1.0, "rate of the backbone as a multiple of lr0", low=0),
    Key("clip_norm", k.FLOAT, 0.1, "largest norm of all gradients together; 0 does not clip", low=0),
    Key("loss", k.WORD, "vfl", "classification loss", choices=("vfl", "mal", "focal"), only="detect"),
    Key("box_loss", k.BOX_LOSS, "giou", "overlap term of the box loss", only="detect"),
    Key("nwd_weight", k.UNIT, 0.0, "part of that term replaced by the Wasserstein distance", only="detect"),
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
        "learning-rate schedule after the warm-up; null: linear, or cosine with cos_lr",
        choices=("linear", "cosine", "flat_cosine", "constant"),
        nullable=True,
    ),
    Key(
        "photometric",
        k.UNIT,
        0.0,
        "probability of each of SSD's colour distortions",
        only="detect",
        traits=_AUGMENT,
    ),
    Key(
        "zoom_out",
        k.UNIT,
        0.0,
        "probability of a canvas around the image, up to 4 x 4",
        only="detect",
        traits=_AUGMENT,
    ),
    Key(
        "iou_crop",
        k.UNIT,
        0.0,
        "probability of a crop that overlaps an object",
        only="detect",
        traits=_AUGMENT,
    ),
    Key("mosaic_n", k.TILES, 4, "images of a mosaic", only="detect", traits=_AUGMENT),
    Key(
        "strict",
        k.BOOL,
        True,
        "stop at invalid label rows; false leaves them out",
        traits=T.RESUME,
    ),
    Key(
        "loggers",
        k.LOGGERS,
        "auto",
        "where curves go beside results.csv; auto: what the settings switch on",
        nullable=True,
        traits=T.RESUME,
    ),
    Key("sync_bn", k.BOOL, False, "batch norm statistics over all processes"),
    Key(
        "freeze_bn",
        k.FLOAT,
        0.0,
        "ratio of the run, at its end, with frozen BN statistics",
        low=0,
        high=1,
    ),
    Key(
        "activation_checkpointing",
        k.BOOL,
        False,
        "train in less memory: activations are computed twice",
        traits=T.RESUME,
    ),
    Key(
        "model_scale",
        k.WORD,
        None,
        "compound scale of the model YAML, a letter such as n",
        nullable=True,
        traits=T.INFO | T.EVERY_MODE,
    ),
    Key(
        "modules",
        k.PATHS,
        None,
        "Python files with registered blocks",
        nullable=True,
        traits=T.RESUME | T.INFO | T.EVERY_MODE,
    ),
    Key(
        "letterbox",
        k.BOOL,
        None,
        "keep the aspect ratio and pad (true), or stretch to the square; null: as the model's family",
        nullable=True,
        only="detect",
        traits=T.WEIGHTS | T.EXPORT_VAL | T.EVERY_MODE,
    ),
    Key(
        "reduced_decode",
        k.BOOL,
        False,
        "train, val: decode large JPEGs at 1/2, 1/4 or 1/8 of their size where imgsz is left",
        only="detect",
    ),
    Key(
        "errors",
        k.BOOL,
        False,
        "error analysis in val: six kinds (TIDE), what each costs in AP50, the worst images",
        only="detect",
    ),
    Key(
        "match",
        k.WORD,
        "top-k",
        "rows of a query in val: top-k over query and class, one-class (its best alone), or both, one beside the other",
        choices=("top-k", "one-class", "both"),
        only="detect",
        inert_in={"predict": "it is a rule of val"},
    ),
    Key("ci", k.BOOL, False, "confidence intervals in val: bootstrap over images, seeded", only="detect"),
    Key(
        "smoothing",
        k.UNIT,
        0.0,
        "label smoothing: part of the target that is spread over all classes",
        only="classify",
    ),
    Key(
        "distill_type",
        k.WORD,
        "hard",
        "target of the teacher: its class (hard) or its probabilities (soft)",
        choices=("hard", "soft"),
        only="classify",
    ),
)
"""Arguments that the `ultralytics` interface does not have."""

EXTRA: tuple[Key, ...] = (
    Key("save_dir", k.PATH, None, "folder of this run", nullable=True, traits=T.RESUME | T.ONE_RUN | T.PLACE),
)
"""Arguments without a default: a run sets them for itself, and the user may."""
