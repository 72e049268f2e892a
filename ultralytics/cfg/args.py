"""The typed arguments of a run, written by `cfg/generate.py` from the table of arguments."""

from __future__ import annotations

from typing import Any

from ultralytics.cfg.typed import TypedNamespace


class Args(TypedNamespace):
    """Every argument with the type of its stored value."""

    task: str
    mode: str
    model: str | None
    data: str | None
    epochs: int
    time: float | None
    patience: int
    batch: int | float
    imgsz: int | list[int]
    save: bool
    save_period: int
    cache: bool | str
    device: int | str | list[int | str] | None
    workers: int
    project: str | None
    name: str | None
    exist_ok: bool
    pretrained: bool | str
    cls_remap: bool
    optimizer: str
    verbose: bool
    seed: int
    deterministic: bool
    single_cls: bool
    rect: bool
    cos_lr: bool
    close_mosaic: int
    resume: bool | str
    amp: bool | str
    fraction: float | list[float]
    profile: bool
    freeze: int | list[int | str] | None
    multi_scale: float
    compile: bool | str
    channels_last: bool | None
    overlap_mask: bool
    mask_ratio: int
    dropout: float
    val: bool
    split: str
    save_json: bool
    conf: float | None
    iou: float
    max_det: int
    quantize: int | str | None
    dnn: bool
    plots: bool
    nms: bool | None
    source: Any | None
    vid_stride: int
    stream_buffer: bool
    visualize: bool
    augment: bool
    agnostic_nms: bool
    classes: int | list[int | str] | None
    retina_masks: bool
    embed: list[int] | None
    show: bool
    save_frames: bool
    save_txt: bool
    save_conf: bool
    save_crop: bool
    show_labels: bool
    show_conf: bool
    show_boxes: bool
    line_width: int | None
    format: str
    optimize: bool
    dynamic: bool
    simplify: bool
    opset: int | None
    workspace: float | None
    lr0: float
    lrf: float
    momentum: float
    weight_decay: float
    warmup_epochs: float
    warmup_momentum: float
    warmup_bias_lr: float
    distill_model: str | None
    dis: float
    box: float
    cls: float
    cls_pw: float
    dfl: float
    pose: float
    kobj: float
    rle: float
    angle: float
    dlog: float
    dgrad: float
    dlam: float
    nbs: int
    hsv_h: float
    hsv_s: float
    hsv_v: float
    degrees: float
    translate: float
    scale: float | list[float]
    shear: float
    perspective: float
    flipud: float
    fliplr: float
    bgr: float
    mosaic: float
    mixup: float
    cutmix: float
    copy_paste: float
    copy_paste_mode: str
    auto_augment: str | None
    erasing: float
    cfg: str | None
    tracker: str
    allow_mismatch: bool
    recipe: str
    backbone_lr_ratio: float
    clip_norm: float
    loss: str
    box_loss: str
    nwd_weight: float
    aux_groups: int
    ema_decay: float
    ema_warmup: float
    lr_schedule: str | None
    plan: str | None
    photometric: float
    zoom_out: float
    iou_crop: float
    mosaic_n: int
    strict: bool
    loggers: str | list[str] | None
    sync_bn: bool
    freeze_bn: float
    activation_checkpointing: bool
    model_scale: str | None
    modules: str | list[str] | None
    letterbox: bool | None
    slice: int | list[int] | None
    overlap: float
    save_mot: bool
    reduced_decode: bool
    errors: bool
    match: str
    ci: bool
    smoothing: float
    distill_type: str
    save_dir: str | None
