from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ultralytics.cfg import MODES, TASKS, apply_recipe, get_cfg, get_save_dir
from ultralytics.cfg.renames import _SYNONYMS, migrate, suggestions
from ultralytics.cfg.resolution import drop_foreign, load_recipe, recipe_names, resolve, user_values
from ultralytics.cfg.schema import KEYS, UPSTREAM_KEYS, Trait, defaults
from ultralytics.utils import DEFAULT_CFG, SETTINGS, YAML, IterableSimpleNamespace
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH
from ultralytics.utils.errors import ConfigError, ConfigTypeError, NotFoundError, UnknownArgumentError, UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text("# mine\nepochs: 7\nlr0: 1e-3\nmosaic: 1.0\n")
    return path


def test_nothing_given() -> None:
    args = get_cfg()
    assert vars(args) == defaults() and args.user_keys == frozenset()
    assert get_cfg(overrides={}) == get_cfg({}) == args


def test_later_sources_win(file: Path) -> None:
    args = get_cfg(file, {"epochs": 9})
    assert (args.epochs, args.lr0, args.batch) == (9, 0.001, 16)
    assert args.user_keys == {"epochs", "lr0", "mosaic"}
    assert get_cfg(overrides={"cfg": str(file), "epochs": 9}).lr0 == 0.001
    assert get_cfg({"cfg": file, "epochs": 9}).epochs == 9


def test_every_form_of_a_source() -> None:
    for source in ({"epochs": 5}, SimpleNamespace(epochs=5), get_cfg(overrides={"epochs": 5})):
        args = get_cfg(source)
        assert args.epochs == 5 and args.user_keys == {"epochs"}
        assert get_cfg(overrides=source).epochs == 5 and get_cfg(overrides=source).user_keys == {"epochs"}


def test_a_namespace_keeps_what_it_holds() -> None:
    first = get_cfg(overrides={"lr0": 0.1})
    first.save_dir = "here"
    second = get_cfg(first, {"epochs": 3})
    assert (second.lr0, second.epochs, second.save_dir) == (0.1, 3, "here")
    assert second.user_keys == {"lr0", "epochs"} and first.epochs == 100


def test_user_keys_of_a_full_copy_are_its_changes(tmp_path: Path) -> None:
    path = tmp_path / "copy.yaml"
    path.write_text(DEFAULT_CFG_PATH.read_text().replace("epochs: 100", "epochs: 3"))
    args = get_cfg(path)
    assert args.epochs == 3 and args.user_keys == {"epochs"}
    assert get_cfg(DEFAULT_CFG).user_keys == frozenset() and get_cfg(overrides=defaults()).user_keys == frozenset()
    assert get_cfg(overrides={"cfg": path, "lr0": 0.01}).user_keys == {"cfg", "lr0", "epochs"}


@pytest.mark.parametrize("place", [{}, {"save_dir": "mine", "resume": "mine.pt"}], ids=["its own", "given"])
def test_the_record_of_a_run_starts_another_run(
    place: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "args.yaml"
    YAML.save(path, {**defaults(), "epochs": 3, "save_dir": "runs/old", "resume": "runs/old/weights/last.pt"})
    for args in (get_cfg(path, place), get_cfg(overrides={"cfg": str(path), **place})):
        assert args.epochs == 3 and "epochs" in args.user_keys
        assert (args.get("save_dir"), args.resume) == (place.get("save_dir"), place.get("resume", False))
        assert ("save_dir" in args.user_keys) is bool(place)
    assert "records the run in runs/old" in capsys.readouterr().out


def test_a_file_of_the_user_may_name_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "launch.yaml"
    YAML.save(path, {"epochs": 3, "save_dir": "here", "resume": "last.pt"})
    args = get_cfg(path)
    assert (args.save_dir, args.resume) == ("here", "last.pt")


@pytest.mark.parametrize(
    ("given", "error", "parts"),
    [
        ({"epoch": 3}, UnknownArgumentError, ["'epoch'", "epochs"]),
        ({"lr": 3}, UnknownArgumentError, ["'lr'"]),
        ({"zzzzzz": 3}, UnknownArgumentError, ["yolo cfg"]),
        ({"a1": 1, "a2": 1, "a3": 1, "a4": 1}, UnknownArgumentError, ["a1", "a3"]),
        ({"epochs": "x"}, ConfigTypeError, ["epochs", "str"]),
        ({"epochs": 0}, ConfigError, ["epochs", "at least 1"]),
        ({"cfg": "none.yaml"}, NotFoundError, ["none.yaml"]),
    ],
)
def test_wrong_arguments(given: dict[str, Any], error: type[UserError], parts: list[str]) -> None:
    with pytest.raises(error) as e:
        get_cfg(overrides=given)
    assert all(w in str(e.value) for w in parts) and len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"task": "classify", "iou": 0.5}, "iou=0.5 has no effect: it is for detect only"),
        ({"optimize": True}, "optimize=True"),
        ({"mask_ratio": 2}, "mask_ratio=2"),
        ({"overlap_mask": False}, "overlap_mask=False"),
        ({"dnn": True}, "dnn=True"),
        ({"visualize": True}, "visualize=True"),
        ({"mode": "predict", "tracker": "botsort.yaml"}, "tracker=botsort.yaml has no effect: it is for track"),
        ({"task": "classify", "classes": 0}, "classes=0 has no effect: it is for detect only"),
        ({"task": "classify", "mosaic": 0.5}, "mosaic=0.5"),
        ({"task": "classify", "conf": 0.5}, "conf=0.5"),
        ({"mode": "train", "compile": True}, "compile=True has no effect: denoising"),
        ({"mode": "train", "augment": True}, "augment=True has no effect: it fuses views"),
    ],
)
def test_an_argument_without_effect_warns_once_and_is_set_to_the_default(
    given: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = get_cfg(overrides=given)
    out = capsys.readouterr().out
    assert reason in out and out.count("has no effect") == 1
    name = list(given)[-1]
    assert args.get(name) == defaults()[name] and name not in args.user_keys
    get_cfg(args)
    get_cfg(overrides=user_values(args))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"iou": 0.5}, "iou=0.5 has no effect: RT-DETR has no non-maximum suppression"),
        ({"agnostic_nms": True}, "agnostic_nms=True has no effect"),
        ({"nms": False}, "nms=False has no effect: RT-DETR has no non-maximum suppression"),
        ({"rect": True}, "rect=True has no effect: RT-DETR takes square inputs"),
        ({"box": 3.0}, "box=3.0 has no effect"),
        ({"cls_pw": 0.5}, "cls_pw=0.5 has no effect: RT-DETR's loss has no class weights"),
    ],
)
def test_an_argument_of_other_families_warns_and_is_set_to_the_default(
    given: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = get_cfg(overrides=given)
    name, value = next(iter(given.items()))
    assert drop_foreign(args, Trait.SUPPRESSION | Trait.GAIN | Trait.SHAPE) is args and args.get(name) == value
    assert not capsys.readouterr().out
    dropped = drop_foreign(args, Trait.NONE)
    assert reason in capsys.readouterr().out
    assert dropped.get(name) == defaults()[name] and name not in dropped.user_keys
    assert drop_foreign(dropped, Trait.NONE) is dropped and not capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [{"compile": True}, {"mode": "val", "augment": True}, {"mode": "predict", "compile": True}],
)
def test_an_argument_keeps_its_effect_in_other_modes(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    args = get_cfg(overrides=given)
    assert all(args.get(name) == value for name, value in given.items()) and not capsys.readouterr().out


def test_the_record_of_an_older_release_starts_a_run(tmp_path: Path) -> None:
    """It lacks later keys, has dropped ones, and its folder is not taken."""
    later = (
        "dis",
        "cls_remap",
        "cls_pw",
        "cutmix",
        "dlog",
        "dgrad",
        "dlam",
        "angle",
        "rle",
        "end2end",
        "channels_last",
    )
    old = {k: v for k, v in defaults().items() if k in UPSTREAM_KEYS and k not in later}
    old |= {"nms": False, "tracker": "botsort.yaml", "half": False, "int8": False, "keras": False, "boxes": True}
    old |= {"label_smoothing": 0.0, "v5loader": False, "image_weights": False, "save_dir": "runs/detect/train4"}
    old |= {"epochs": 3, "multi_scale": False, "device": "", "workspace": 4}
    YAML.save(tmp_path / "args.yaml", old)
    args = get_cfg(tmp_path / "args.yaml")
    assert (args.epochs, args.nms, args.tracker, args.quantize) == (3, None, "bytetrack.yaml", None)
    assert args.get("save_dir") is None and {"epochs"} <= args.user_keys
    assert not args.user_keys & {"lr0", "mosaic", "nms", "tracker"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        *((name, "imgsz") for name in ("size", "img_size", "img")),
        *((name, "conf") for name in ("conf_thres", "threshold", "confidence", "score_thresh")),
        ("weights", "model"),
        ("wd", "weight_decay"),
        ("grad_clip", "clip_norm"),
        ("images", "source"),
        ("num_classes", "data"),
        ("iou_thres", "iou"),
        ("batch_size", "batch"),
        ("num_workers", "workers"),
        ("noval", "val"),
        ("adam", "optimizer"),
        ("tune", "is a command: yolo tune"),
        ("hub", "not part of this package"),
        ("persist", "model.track"),
    ],
)
def test_names_of_other_detectors_lead_to_ours(name: str, wanted: str) -> None:
    with pytest.raises(UnknownArgumentError) as e:
        get_cfg(overrides={name: 1})
    assert str(e.value).splitlines()[0].endswith(wanted + "?") or wanted in str(e.value)


def test_every_synonym_is_an_argument() -> None:
    assert all(set(suggestions(name)) <= set(KEYS) for name in (*_SYNONYMS, "size", "output", "view"))


def test_resolved_arguments_are_frozen_and_replaced() -> None:
    args = resolve(overrides={"epochs": 3})
    with pytest.raises(AttributeError, match=r"args\.replace\(epochs="):
        args.epochs = 4
    new = args.replace(epochs=np.int64(4), save_dir="here")
    assert (args.epochs, new.epochs, new.save_dir, new.user_keys) == (3, 4, "here", {"epochs"})
    with pytest.raises(AttributeError, match="frozen"):
        copy.deepcopy(pickle.loads(pickle.dumps(new))).epochs = 5
    with pytest.raises(ConfigError, match="at least 1"):
        args.replace(epochs=0)
    with pytest.raises(UnknownArgumentError, match="epoch"):
        args.replace(epoch=3)


def test_the_arguments_of_get_cfg_can_be_written_to() -> None:
    args = get_cfg(overrides={"epochs": 3})
    args.epochs = 4
    assert isinstance(args, IterableSimpleNamespace) and type(args) is type(resolve()) and args.epochs == 4
    setattr(args, "mine", 1)  # noqa: B010
    assert args.replace(epochs=5).get("mine") == 1 and args.frozen().epochs == 4


@pytest.mark.parametrize(
    "given",
    [{"classes": None}, {"classes": []}, {"mosaic": 0}, {"mosaic": False}, {"close_mosaic": 0}, {"max_det": 300}],
)
def test_switched_off_arguments_of_another_task_are_silent(given: dict[str, Any]) -> None:
    args = get_cfg(overrides={"task": "classify", **given})
    assert {name: getattr(args, name) for name in given} == given


def test_unknown_arguments_are_syntax_errors_as_upstream() -> None:
    with pytest.raises(SyntaxError, match="epochs"):
        get_cfg(overrides={"epoch": 3})


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [("epochs: 3\nepoch: 4\n", 2, "epochs"), ("\n\nlr0: high\n", 3, "lr0"), ("a: [\n", 2, "YAML")],
)
def test_errors_in_a_file_name_its_line(text: str, line: int, part: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(UserError, match=part) as e:
        get_cfg(tmp_path / "my.yaml")
    assert f"{tmp_path / 'my.yaml'}:{line}" in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "warns"),
    [
        ({}, {}, ""),
        ({"epochs": 3}, {"epochs": 3}, ""),
        ({"boxes": False}, {"show_boxes": False}, "boxes"),
        ({"hide_labels": True}, {"show_labels": False}, "hide_labels"),
        ({"hide_conf": False}, {"show_conf": True}, "hide_conf"),
        ({"line_thickness": 3}, {"line_width": 3}, "line_thickness"),
        ({"half": True}, {"quantize": 16}, "half"),
        ({"half": False}, {"quantize": None}, "half"),
        ({"int8": True}, {"quantize": 8}, "int8"),
        ({"int8": False, "half": True}, {"quantize": 16}, "half"),
        ({"end2end": None}, {}, ""),
        ({"end2end": True}, {}, "end2end"),
        ({"v5loader": False, "image_weights": False}, {}, "v5loader"),
        ({"task": "train"}, {}, "is a mode"),
        ({"label_smoothing": 0.1, "crop_fraction": 1}, {}, "label_smoothing"),
        ({"task": "detect", "label_smoothing": 0.1}, {"task": "detect"}, "classification has smoothing="),
        ({"task": "classify", "label_smoothing": 0.1}, {"task": "classify", "smoothing": 0.1}, "smoothing=0.1"),
        ({"scale": "n"}, {"model_scale": "n"}, ""),
        ({"scale": 0.5}, {"scale": 0.5}, ""),
        ({"name": "model", "model": "a/yolo.pt"}, {"name": "yolo", "model": "a/yolo.pt"}, ""),
    ],
)
def test_old_names(old: dict[str, Any], new: dict[str, Any], warns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate(old) == new
    assert warns in capsys.readouterr().out


def test_a_letter_for_scale_is_the_model_s() -> None:
    args = get_cfg(overrides={"scale": "x"})
    assert (args.model_scale, args.scale) == ("x", 0.5)


def test_the_shipped_recipes() -> None:
    assert {"dense", "few", "fork", "official", "small", "tiny", "trial", "ultralytics"} <= set(recipe_names())
    small, official = load_recipe("small"), load_recipe("official")
    assert (small["optimizer"], small["lr0"], small["nbs"], small["mosaic"]) == ("AdamW", 1e-3, 1, 0.0)
    assert (official["lr0"], official["backbone_lr_ratio"], official["clip_norm"]) == (1e-4, 0.1, 0.1)
    same = {k: v for k, v in load_recipe("ultralytics").items() if k not in {"clip_norm", "erasing"}}
    assert same == {k: defaults()[k] for k in same}


def test_a_recipe_never_replaces_what_the_user_gave(file: Path) -> None:
    args = get_cfg(file, {"optimizer": "SGD"})
    new = apply_recipe(args, "small")
    assert (new.optimizer, new.lr0, new.mosaic, new.epochs) == ("SGD", 0.001, 1.0, 7)
    assert (new.weight_decay, new.nbs, new.recipe) == (1e-4, 1, "small")
    assert new.user_keys == args.user_keys and args.nbs == 64 and args.recipe == "auto"
    assert apply_recipe(copy.deepcopy(args), "small") == new


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, ("AdamW", 1e-4, 0.9)),
        ({"optimizer": "Adam"}, ("Adam", 1e-4, 0.9)),
        ({"optimizer": "sgd"}, ("SGD", 0.01, 0.937)),
        ({"optimizer": "SGD", "lr0": 0.02}, ("SGD", 0.02, 0.937)),
        ({"optimizer": "SGD", "momentum": 0.5}, ("SGD", 0.01, 0.5)),
    ],
)
def test_a_rate_for_adamw_is_none_for_sgd(given: dict[str, Any], want: tuple[str, float, float]) -> None:
    new = apply_recipe(get_cfg(overrides=given), "official")
    assert (new.optimizer, new.lr0, new.momentum) == want and new.weight_decay == 1e-4


def test_a_recipe_for_sgd_keeps_its_rate(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("optimizer: SGD\nlr0: 0.5\n")
    assert apply_recipe(get_cfg(overrides={"optimizer": "SGD"}), tmp_path / "mine.yaml").lr0 == 0.5


def test_a_recipe_may_be_a_file(tmp_path: Path) -> None:
    YAML.save(tmp_path / "mine.yaml", {"lr0": 0.5})
    assert apply_recipe(get_cfg(), tmp_path / "mine.yaml").lr0 == 0.5
    with pytest.raises(NotFoundError, match="official"):
        apply_recipe(get_cfg(), "smal")
    with pytest.raises(ConfigError, match="trainer"):
        apply_recipe(get_cfg(), "auto")


def test_args_read_back_from_their_file(tmp_path: Path) -> None:
    args = get_cfg(overrides={"epochs": 3, "project": "p", "device": "cpu"})
    YAML.save(tmp_path / "args.yaml", vars(args))
    assert "user_keys" not in YAML.load(tmp_path / "args.yaml")
    again = get_cfg(tmp_path / "args.yaml")
    assert again == args and again.user_keys == args.user_keys


@pytest.mark.parametrize(
    ("given", "there", "name", "want"),
    [
        ({}, [], None, "runs/detect/train"),
        ({"mode": "val"}, ["runs/detect/val"], None, "runs/detect/val2"),
        ({"name": "a"}, [], None, "runs/detect/a"),
        ({"name": "a"}, [], "b", "runs/detect/b"),
        ({"project": "runs/train", "name": "exp"}, [], None, "runs/train/exp"),
        ({"project": "runs/train", "name": "exp"}, ["runs/train/exp"], None, "runs/train/exp2"),
        ({"project": "p", "name": "e", "exist_ok": True}, ["p/e"], None, "p/e"),
        ({"project": "p"}, [], None, "p/train"),
        ({"save_dir": "x/y", "project": "p"}, ["x/y"], None, "x/y"),
    ],
)
def test_save_dir(
    given: dict[str, Any],
    there: list[str],
    name: str | None,
    want: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SETTINGS, "_changes", {})
    for folder in there:
        Path(folder).mkdir(parents=True)
    assert get_save_dir(get_cfg(overrides=given), name) == Path(want)


def test_save_dir_follows_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "_changes", {"runs_dir": str(tmp_path)})
    assert get_save_dir(get_cfg()) == tmp_path / "detect" / "train"


def test_tasks_and_modes() -> None:
    assert "detect" in TASKS and set(MODES) >= {"train", "val", "predict"}


def test_arguments_of_another_family_are_left_out_of_frozen_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """As an export has them."""
    args = resolve(overrides={"nms": False, "imgsz": 64})
    left = drop_foreign(args, Trait.NONE)
    assert left.nms is None and left.user_keys == {"imgsz"} and "nms=False has no effect" in capsys.readouterr().out
    with pytest.raises(AttributeError, match="frozen"):
        left.imgsz = 32
    assert args.user_keys == {"nms", "imgsz"}
