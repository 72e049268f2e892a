"""The argument names and defaults are a contract: command lines, YAML files and checkpoints out there use them.

A name may be added to OURS; one that is taken away, or a default that changes, breaks user code.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from tests.contract.source import files, name_of, tree
from ultralytics.cfg import Args
from ultralytics.cfg.generate import ARGS_PATH, render_args, render_default_yaml
from ultralytics.cfg.schema import EXTRA_KEYS, GROUPS, KEYS, TASKS, UPSTREAM_KEYS, Trait, defaults, keys_with
from ultralytics.data.augment import AugmentParams
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, YAML, IterableSimpleNamespace
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH

UPSTREAM = {
    "task": "detect",
    "mode": "train",
    "model": None,
    "data": None,
    "epochs": 100,
    "time": None,
    "patience": 100,
    "batch": 16,
    "imgsz": 640,
    "save": True,
    "save_period": -1,
    "cache": False,
    "device": None,
    "workers": 8,
    "project": None,
    "name": None,
    "exist_ok": False,
    "pretrained": True,
    "cls_remap": True,
    "optimizer": "auto",
    "verbose": True,
    "seed": 0,
    "deterministic": True,
    "single_cls": False,
    "rect": False,
    "cos_lr": False,
    "close_mosaic": 10,
    "resume": False,
    "amp": True,
    "fraction": 1.0,
    "profile": False,
    "freeze": None,
    "multi_scale": 0.0,
    "compile": False,
    "channels_last": None,
    "overlap_mask": True,
    "mask_ratio": 4,
    "dropout": 0.0,
    "val": True,
    "split": "val",
    "save_json": False,
    "conf": None,
    "iou": 0.7,
    "max_det": 300,
    "quantize": None,
    "dnn": False,
    "plots": True,
    "nms": None,
    "source": None,
    "vid_stride": 1,
    "stream_buffer": False,
    "visualize": False,
    "augment": False,
    "agnostic_nms": False,
    "classes": None,
    "retina_masks": False,
    "embed": None,
    "show": False,
    "save_frames": False,
    "save_txt": False,
    "save_conf": False,
    "save_crop": False,
    "show_labels": True,
    "show_conf": True,
    "show_boxes": True,
    "line_width": None,
    "format": "torchscript",
    "optimize": False,
    "dynamic": False,
    "simplify": True,
    "opset": None,
    "workspace": None,
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "distill_model": None,
    "dis": 6.0,
    "box": 7.5,
    "cls": 0.5,
    "cls_pw": 0.0,
    "dfl": 1.5,
    "pose": 12.0,
    "kobj": 1.0,
    "rle": 1.0,
    "angle": 1.0,
    "dlog": 1.0,
    "dgrad": 0.5,
    "dlam": 1.0,
    "nbs": 64,
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
    "degrees": 0.0,
    "translate": 0.1,
    "scale": 0.5,
    "shear": 0.0,
    "perspective": 0.0,
    "flipud": 0.0,
    "fliplr": 0.5,
    "bgr": 0.0,
    "mosaic": 1.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "copy_paste": 0.0,
    "copy_paste_mode": "flip",
    "auto_augment": "randaugment",
    "erasing": 0.4,
    "cfg": None,
    "tracker": "bytetrack.yaml",  # its default there is a method of its own, which is not here
}

OURS = {
    "recipe": "auto",
    "backbone_lr_ratio": 1.0,
    "clip_norm": 0.1,
    "loss": "vfl",
    "ema_decay": 0.9999,
    "ema_warmup": 2000.0,
    "lr_schedule": None,
    "loggers": "auto",
    "plan": None,
    "sync_bn": False,
    "freeze_bn": 0.0,
    "activation_checkpointing": False,
    "aux_groups": 0,
    "box_loss": "giou",
    "nwd_weight": 0.0,
    "model_scale": None,
    "modules": None,
    "letterbox": None,
    "reduced_decode": False,
    "photometric": 0.0,
    "zoom_out": 0.0,
    "iou_crop": 0.0,
    "mosaic_n": 4,
    "strict": True,
    "allow_mismatch": False,
    "errors": False,
    "match": "top-k",
    "slice": None,
    "overlap": 0.2,
    "save_mot": False,
    "ci": False,
    "smoothing": 0.0,
    "distill_type": "hard",
}


def test_the_113_keys_keep_their_names_and_defaults() -> None:
    assert len(UPSTREAM) == 113
    assert {k: KEYS[k].default for k in UPSTREAM_KEYS} == UPSTREAM


def test_our_own_keys() -> None:
    assert {k: KEYS[k].default for k in KEYS if k not in UPSTREAM_KEYS} == OURS


def test_default_yaml_is_written_from_the_rows() -> None:
    assert DEFAULT_CFG_PATH.read_text(encoding="utf-8") == render_default_yaml()
    assert YAML.load(DEFAULT_CFG_PATH) == defaults() == DEFAULT_CFG_DICT == vars(DEFAULT_CFG)


def test_every_line_of_default_yaml_has_a_comment() -> None:
    lines = [t for t in DEFAULT_CFG_PATH.read_text(encoding="utf-8").splitlines() if t and not t.startswith("#")]
    assert len(lines) == len(KEYS) and all("  # " in line for line in lines)


def test_no_key_stands_in_two_groups() -> None:
    assert sum(len(group) for group in GROUPS.values()) == len(KEYS)


def test_defaults_are_copies() -> None:
    first = DEFAULT_CFG_DICT
    from ultralytics import utils

    utils.DEFAULT_CFG_DICT["epochs"] = 7
    assert first["epochs"] == utils.DEFAULT_CFG_DICT["epochs"] == 100


@pytest.mark.parametrize("name", sorted(KEYS))
def test_each_default_is_a_legal_value(name: str) -> None:
    key = KEYS[name]
    assert key.check(key.default) == key.default
    assert key.meaning and key.bounds


def test_args_is_written_from_the_rows() -> None:
    assert ARGS_PATH.read_text(encoding="utf-8") == render_args()
    assert list(Args.__annotations__) == [*KEYS, *EXTRA_KEYS]
    assert not set(dir(IterableSimpleNamespace)) & {*KEYS, *EXTRA_KEYS}, "an argument hides a method"


def test_a_type_checker_reports_a_misspelt_argument(tmp_path: Path) -> None:
    mypy = pytest.importorskip("mypy.api")
    (tmp_path / "use.py").write_text(
        "from ultralytics.cfg import get_cfg\nargs = get_cfg()\nargs.imgzs\n"
        "args.epochs + 1\nargs.replace(epochs=3).imgsz\n"
    )
    heavy = ",".join(
        f"{m}.*" for m in ("torch", "numpy", *(f"ultralytics.{p}" for p in ("nn", "data", "engine", "models")))
    )
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = True\n[mypy-{heavy}]\nfollow_imports = skip\n")
    options = ["--follow-imports=silent", f"--config-file={tmp_path / 'mypy.ini'}", f"--cache-dir={tmp_path}"]
    out = mypy.run([*options, str(tmp_path / "use.py")])[0]
    assert 'use.py:3: error: "Args" has no attribute "imgzs"' in out and out.count("error:") == 1


TRAITS = {
    Trait.RESUME: """batch device workers cache imgsz epochs time patience close_mosaic save_period val plots verbose
    data channels_last save_dir profile hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr bgr
    mosaic mosaic_n mixup cutmix copy_paste copy_paste_mode erasing photometric zoom_out iou_crop strict modules
    activation_checkpointing loggers""",
    Trait.SELECTS: "resume model task mode cfg recipe",
    Trait.REBUILD: "device quantize amp compile channels_last nms",
    Trait.ONE_RUN: "save_dir resume",
    Trait.PLACE: "project name exist_ok save_dir",
    Trait.WEIGHTS: "imgsz data single_cls letterbox",
    Trait.SHOWN: "data imgsz epochs batch optimizer lr0 recipe seed",
    Trait.OPTIMIZER: "lr0 momentum",
    Trait.INFO: "model imgsz modules task cfg model_scale",
    Trait.EXPORT_VAL: "data split workers letterbox max_det single_cls iou agnostic_nms",
    Trait.SUPPRESSION: "iou agnostic_nms nms",
    Trait.MATCHING: "loss box_loss nwd_weight aux_groups",
    Trait.SHAPE: "rect",
    Trait.GAIN: "box cls dfl cls_pw",
    Trait.NAMES_FILE: "data pretrained distill_model recipe modules",
    Trait.GIVEN: "optimizer lr0 momentum warmup_epochs letterbox",
    Trait.SAME_RESULT: "plots verbose workers save_period profile device",
}


@pytest.mark.parametrize("trait", list(TRAITS), ids=str)
def test_a_trait_belongs_to_these_arguments(trait: Trait) -> None:
    """What survives a resume, rebuilds a predictor and so on changes behaviour, so a change is made in two places."""
    assert set(keys_with(trait)) == set(TRAITS[trait].split())


def test_traits_do_not_contradict_each_other() -> None:
    assert not set(keys_with(Trait.RESUME)) & set(keys_with(Trait.SELECTS))
    for key in KEYS.values():
        assert key.only in {"", *TASKS}
        assert not (key.inert and key.traits), f"{key.name} has no effect, so nothing may depend on it"


def test_augmentation_has_the_defaults_of_the_table() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(AugmentParams)}
    assert set(fields) == set(keys_with(Trait.AUGMENT))
    erasing = {"erasing": 0.0}  # of detection
    assert fields == {name: KEYS[name].default for name in fields} | erasing


def test_no_other_module_lists_arguments() -> None:
    """A collection of five or more names of arguments belongs into the table, as a trait."""
    allowed = {"ultralytics.cfg.table", "ultralytics.cfg.table_own", "ultralytics.cfg.renames"}
    lists = {}
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set)) and name_of(path) not in allowed:
                names = [e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
                if len(names) >= 5 and len(names) == len(node.elts) and set(names) <= {*KEYS, *EXTRA_KEYS}:
                    lists[f"{name_of(path)}:{node.lineno}"] = names
    assert not lists
