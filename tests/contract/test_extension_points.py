"""Every method that the interface lets a subclass replace is called, with the interface's arguments.

One run of each kind is made with a subclass that counts the calls of all its methods and then does what they do.
"""

from __future__ import annotations

import inspect
import re
import runpy
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import TINY, spread_network, write_dataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.predictor import PREDICTOR_NOT_CALLED
from ultralytics.engine.training.interface import TRAINER_NOT_CALLED
from ultralytics.engine.validator import VALIDATOR_NOT_CALLED
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRDataset, RTDETRValidator
from ultralytics.models.shvit.predict import ClassificationPredictor
from ultralytics.models.shvit.train import ClassificationTrainer
from ultralytics.models.shvit.val import ClassificationValidator
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.utils import YAML
from ultralytics.utils.errors import ConfigError

TRAINER: Mapping[str, str] = {
    "get_dataset": "",
    "get_model": "cfg weights verbose",
    "setup_model": "",
    "set_model_attributes": "",
    "build_dataset": "img_path mode batch",
    "get_dataloader": "dataset_path batch_size rank mode",
    "build_optimizer": "model name lr momentum decay iterations",
    "get_validator": "",
    "auto_batch": "max_num_obj dataset_size",
    "resume_training": "ckpt",
    "preprocess_batch": "batch",
    "optimizer_step": "",
    "label_loss_items": "loss_items prefix",
    "validate": "",
    "save_metrics": "metrics",
    "save_model": "",
    "final_eval": "",
    "progress_string": "",
    "plot_training_samples": "batch ni",
    "plot_training_labels": "",
    "plot_metrics": "",
    "on_plot": "name data",
    "_setup_train": "",
    "_setup_scheduler": "",
    "_do_train": "",
    "_model_train": "",
    "_close_dataloader_mosaic": "",
}
VALIDATOR: Mapping[str, str] = {
    "build_dataset": "img_path mode batch",
    "get_dataloader": "dataset_path batch_size",
    "get_desc": "",
    "preprocess": "batch",
    "postprocess": "preds",
    "init_metrics": "model",
    "update_metrics": "preds batch",
    "finalize_metrics": "",
    "get_stats": "",
    "print_results": "",
    "pred_to_json": "predn pbatch",
    "eval_json": "stats",
    "save_one_txt": "predn save_conf shape file",
    "match_predictions": "pred_classes true_classes iou use_scipy",
    "scale_preds": "predn pbatch",
    "plot_val_samples": "batch ni",
    "plot_predictions": "batch preds ni",
    "on_plot": "name data",
    "_prepare_batch": "si batch",
    "_prepare_pred": "pred",
    "_process_batch": "preds batch",
}
PREDICTOR: Mapping[str, str] = {
    "setup_model": "model verbose",
    "setup_source": "source stride",
    "stream_inference": "source model args kwargs",
    "pre_transform": "im",
    "preprocess": "im",
    "inference": "im args kwargs",
    "postprocess": "preds img orig_imgs",
    "construct_results": "preds img orig_imgs",
    "construct_result": "pred img orig_img img_path",
    "write_results": "i p im s",
    "save_predicted_images": "save_path frame",
}
DATASET: Mapping[str, str] = {
    "get_img_files": "img_path",
    "get_labels": "",
    "update_labels": "include_class",
    "set_rectangle": "",
    "load_image": "i rect_mode",
    "get_image_and_label": "index",
    "build_transforms": "hyp",
    "close_mosaic": "hyp",
    "set_epoch": "epoch",
}
CLASSES = [
    (RTDETRDataset, DATASET),
    *((cls, TRAINER) for cls in (RTDETRTrainer, ClassificationTrainer)),
    *((cls, PREDICTOR) for cls in (RTDETRPredictor, ClassificationPredictor)),
    (RTDETRValidator, VALIDATOR),
    (ClassificationValidator, {k: v for k, v in VALIDATOR.items() if hasattr(ClassificationValidator, k)}),
]


def counting(base: type[Any], names: Mapping[str, str]) -> tuple[type[Any], Counter[str]]:
    """Return a subclass that replaces each method by one that counts and calls it, and its counts."""
    calls: Counter[str] = Counter()

    def replaced(name: str) -> Callable[..., Any]:
        method = getattr(base, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(self, *args, **kwargs)

        return call

    return type(f"Counting{base.__name__}", (base,), {name: replaced(name) for name in names}), calls


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """Two epochs with pictures, an automatic batch and mosaic in the first."""
    folder = tmp_path_factory.mktemp("runs")
    network = folder / "tiny.yaml"
    YAML.save(network, TINY)
    cls, calls = counting(RTDETRTrainer, TRAINER)
    sizes = {"epochs": 2, "imgsz": 64, "batch": -1, "workers": 0, "close_mosaic": 1}
    own = {"model": str(network), "data": str(data), "project": str(folder), "device": "cpu", "verbose": False}
    cls(overrides={**sizes, **own}).train()
    return calls


@pytest.fixture(scope="module")
def validated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """A validation with pictures and all files."""
    cls, calls = counting(RTDETRValidator, VALIDATOR)
    options = {"data": str(data), "imgsz": 64, "workers": 0, "save_json": True, "save_txt": True, "device": "cpu"}
    cls(args={**options, "project": str(tmp_path_factory.mktemp("runs"))})(model=spread_network())
    return calls


@pytest.fixture(scope="module")
def predicted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """A prediction that saves its pictures."""
    cls, calls = counting(RTDETRPredictor, PREDICTOR)
    options = {"imgsz": 64, "save": True, "device": "cpu", "project": str(tmp_path_factory.mktemp("runs"))}
    cls(overrides=options)(str(data.parent / "images" / "val" / "000.png"), spread_network())
    return calls


@pytest.fixture(scope="module")
def read(data: Path) -> Counter[str]:
    """A sample of a training set in rectangles, before and after mosaics are off."""
    cls, calls = counting(RTDETRDataset, DATASET)
    dataset = cls(img_path=str(data.parent / "images" / "train"), imgsz=64, rect=True, data=check_det_dataset(data))
    dataset[0]
    dataset.close_mosaic(None)
    dataset[0]
    return calls


@pytest.mark.parametrize("name", DATASET)
def test_a_replaced_method_of_the_data_set_is_called(read: Counter[str], name: str) -> None:
    assert read[name] >= 1


@pytest.mark.parametrize("name", TRAINER)
def test_a_replaced_method_of_the_trainer_is_called(trained: Counter[str], name: str) -> None:
    assert trained[name] >= 1


@pytest.mark.parametrize("name", VALIDATOR)
def test_a_replaced_method_of_the_validator_is_called(validated: Counter[str], name: str) -> None:
    assert validated[name] >= 1


@pytest.mark.parametrize("name", PREDICTOR)
def test_a_replaced_method_of_the_predictor_is_called(predicted: Counter[str], name: str) -> None:
    assert predicted[name] >= 1


@pytest.mark.parametrize(("cls", "points"), CLASSES, ids=lambda value: getattr(value, "__name__", ""))
def test_methods_take_the_arguments_of_the_interface(cls: type[Any], points: Mapping[str, str]) -> None:
    got = {name: " ".join(list(inspect.signature(getattr(cls, name)).parameters)[1:]) for name in points}
    assert got == dict(points)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        *((RTDETRTrainer, name) for name in TRAINER_NOT_CALLED),
        *((RTDETRValidator, name) for name in VALIDATOR_NOT_CALLED),
        *((RTDETRPredictor, name) for name in PREDICTOR_NOT_CALLED),
    ],
)
def test_a_method_that_is_never_called_is_refused(base: type[Any], name: str) -> None:
    cls = type("Mine", (base,), {name: lambda self: None})
    with pytest.raises(ConfigError, match=rf"Mine\.{name} is never called"):
        cls()


def test_a_replaced_optimizer_step_in_the_form_of_the_interface_trains(data: Path, tmp_path: Path) -> None:
    class Clipped(RTDETRTrainer):
        def optimizer_step(self) -> None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=0.1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.ema.update(self.model)

    network = tmp_path / "tiny.yaml"
    YAML.save(network, TINY)
    sizes = {"epochs": 1, "imgsz": 64, "batch": 2, "nbs": 4, "workers": 0, "warmup_epochs": 0.0, "plots": False}
    own = {"model": str(network), "data": str(data), "project": str(tmp_path), "device": "cpu", "verbose": False}
    trainer = Clipped(overrides={**sizes, **own})
    trainer.final_val = False
    before = trainer.get_model(cfg=str(network), verbose=False).state_dict()
    trainer.train()
    assert trainer.ema.updates == 1  # two batches, one step
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before if k.endswith("weight"))


PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.mark.parametrize(
    "points", [TRAINER, VALIDATOR, PREDICTOR, DATASET], ids=["trainer", "validator", "predictor", "data set"]
)
def test_the_page_names_every_extension_point(points: Mapping[str, str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [name for name in points if f"`{name}`" not in text]
    assert not missing, missing


def test_the_example_of_the_page_trains(data: Path, tmp_path: Path) -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    example = tmp_path / "example.py"
    example.write_text(code, encoding="utf-8")
    recipe = runpy.run_path(str(example))["Recipe"]
    network = tmp_path / "tiny.yaml"
    YAML.save(network, TINY)
    sizes = {"epochs": 1, "imgsz": 64, "batch": 2, "workers": 0, "plots": False}
    own = {"model": str(network), "data": str(data), "project": str(tmp_path), "device": "cpu", "verbose": False}
    trainer = recipe(overrides={**sizes, **own})
    trainer.final_val = False
    trainer.train()
    assert trainer.fitness == trainer.metrics["metrics/mAP50(B)"]
    assert [group["initial_lr"] for group in trainer.optimizer.param_groups] == [1e-5, 1e-4]


BLOCKS = [block.split("```")[0] for block in PAGE.read_text(encoding="utf-8").split("```python\n")[1:]]


@pytest.fixture(scope="module")
def page(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the blocks of the page have defined so far; the working folder has the files that they name."""
    folder = tmp_path_factory.mktemp("page")
    network = spread_network()
    save_checkpoint(folder / "best.pt", {"model": pack_model(network)})
    shutil.copy(data, folder / "my.yaml")
    shutil.copytree(data.parent / "images" / "val", folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield {"__name__": "page"}


def test_the_blocks_of_the_page_run_one_after_the_other(page: dict[str, Any]) -> None:
    """One test, since a block may use the names of earlier ones; the traceback has the block's number."""
    for number, block in enumerate(BLOCKS):
        exec(compile(_quick(block), f"{PAGE.name}, block {number}", "exec"), page)


def _quick(block: str) -> str:
    """A block in small: one epoch, 64 px, on the CPU."""
    quick = re.sub(r"(epochs\"?[=:] ?)\d+", r"\g<1>1", block.replace("640", "64"))
    quick = quick.replace('data="my.yaml"', 'data="my.yaml", workers=0, plots=False, device="cpu", amp=False, batch=2')
    return quick.replace(
        '"data": "my.yaml"', '"data": "my.yaml", "workers": 0, "plots": False, "amp": False, "batch": 2'
    )
