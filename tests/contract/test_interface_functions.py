"""Functions and networks that scripts of the `ultralytics` interface import, each with what it must give.

A row of the table is a call and what is expected of its result: a value, or an error.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

import ultralytics
import ultralytics.utils.checks
from tests.contract.calls import check_call
from tests.engine.tiny import IMAGES, TINY, draw
from ultralytics import RTDETR
from ultralytics.data.build import check_source, load_inference_source
from ultralytics.data.loaders import LoadPilAndNumpy, LoadTensor, autocast_list
from ultralytics.data.utils import autosplit, compress_one_image, find_dataset_yaml
from ultralytics.engine.results import Results
from ultralytics.models.rtdetr import RTDETRPredictor
from ultralytics.nn import tasks
from ultralytics.nn.families import FAMILIES
from ultralytics.utils import (
    ASSETS,
    SimpleClass,
    ThreadingLocked,
    is_pip_package,
    is_raspberrypi,
    is_ubuntu,
    patches,
    plt_settings,
)
from ultralytics.utils.errors import ConfigError, ConfigTypeError, NotFoundError

PICTURE = draw(*IMAGES[0])
YOLO_TINY: dict[str, Any] = {**TINY, "head": [[[2, 3, 4], 1, "Detect", ["nc"]]]}


class Printed(SimpleClass):
    """A class of the user's own."""

    def __init__(self, a: int) -> None:
        self.a, self._b = a, 2


def kind_of(source: object) -> str:
    """What `check_source` calls a source."""
    names = ("live", "screen", "memory", "opened", "tensor")
    same, *kinds = check_source(source)
    assert same is source
    return " ".join(name for name, is_it in zip(names, kinds, strict=True) if is_it)


def named(names: list[str]) -> RTDETR:
    """A detector whose names a script has set."""
    model = RTDETR(TINY)
    model.model.names = names
    (found,) = model.predict(PICTURE, imgsz=64, conf=0.001, verbose=False)
    assert found.verbose() and {row["name"] for row in found.summary()} <= set(names)
    return model


cfg: Any = ultralytics.cfg
checks: Any = ultralytics.utils.checks
ROWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "three numbers of a version": (lambda: checks.parse_version("2.14.1+cpu"), (2, 14, 1)),
    "what is not a version": (lambda: checks.parse_version("x"), (0, 0, 0)),
    "requirements of a package": (
        lambda: {"numpy", "torch"} <= {r.name for r in checks.parse_requirements(package="torchvision")},
        True,
    ),
    "torchvision of this torch": (lambda: checks.check_torchvision(), True),
    "weights of a stem": (lambda: checks.check_model_file_from_stem("rtdetr-l"), "rtdetr-l.pt"),
    "an unknown stem": (lambda: checks.check_model_file_from_stem("mine"), "mine"),
    "a former name of weights": (lambda: checks.check_yolov5u_filename("yolov5n.pt"), "yolov5n.pt"),
    "a pair": (lambda: cfg.parse_key_value_pair("lr0 = 1e-3"), ("lr0", 1e-3)),
    "half a pair": (lambda: cfg.parse_key_value_pair("lr0="), ConfigError),
    "settings": (lambda: cfg.handle_yolo_settings(["x"]), ConfigError),
    "a figure with settings": (lambda: plt_settings({"font.size": 7})(lambda: plt.rcParams["font.size"])(), 7),
    "a figure's backend": (lambda: plt_settings()(plt.get_backend)().lower(), "agg"),
    "one thread at a time": (lambda: ThreadingLocked()(max)(1, 2), 2),
    "an object that prints": (lambda: str(Printed(1)).splitlines()[1:], ["a: 1"]),
    "where this runs": (lambda: [type(f()) for f in (is_ubuntu, is_raspberrypi)], [bool, bool]),
    "an installed package": (lambda: (is_pip_package("numpy"), is_pip_package("json")), (True, False)),
    "a live source": (lambda: kind_of("rtsp://a.b/c"), "live"),
    "live sources": (lambda: kind_of(["rtsp://a.b/c", "rtsp://a.b/d"]), "live"),
    "the screen": (lambda: kind_of("screen 0"), "screen"),
    "images in memory": (lambda: kind_of([PICTURE]), "memory"),
    "an open loader": (lambda: kind_of(load_inference_source(PICTURE)), "opened"),
    "a tensor": (lambda: kind_of(torch.rand(1, 3, 32, 32)), "tensor"),
    "a path": (lambda: kind_of(Path("a.jpg")), ""),
    "images of many kinds": (
        lambda: [i.size for i in autocast_list([str(ASSETS / "bus.jpg"), Image.fromarray(PICTURE)])],
        [Image.open(ASSETS / "bus.jpg").size, PICTURE.shape[1::-1]],
    ),
    "an image that is not there": (lambda: autocast_list(["none.jpg"]), NotFoundError),
    "names of images in memory": (lambda: LoadPilAndNumpy([PICTURE, PICTURE]).paths, ["image0.jpg", "image1.jpg"]),
    "names of a tensor": (lambda: LoadTensor(torch.rand(2, 3, 32, 32)).paths, ["image0.jpg", "image1.jpg"]),
    "functions of other modules": (
        lambda: [f.__name__ for f in (autosplit, find_dataset_yaml)],
        ["autosplit", "find_data_yaml"],
    ),
    "detectors by the general name": (
        lambda: [type(tasks.DetectionModel(c, verbose=False)).checkpoint_name for c in (TINY, YOLO_TINY)],
        ["RTDETRDetectionModel", "YOLODetectionModel"],
    ),
    "names of results as a list": (lambda: Results(PICTURE, "a.png", ["x", "y"]).names, {0: "x", 1: "y"}),
    "names of a network as a list": (lambda: named(["x", "y", "z"]).names, {0: "x", 1: "y", 2: "z"}),
    "no criterion before the first loss": (
        lambda: hasattr(tasks.DetectionModel(TINY, verbose=False), "criterion"),
        False,
    ),
    "weights of a path that no system can have": (lambda: RTDETR("x" * 300 + ".pt"), NotFoundError),
    "an object in the place of a class": (
        lambda: RTDETR(TINY).predict(PICTURE, predictor=RTDETRPredictor()),  # type: ignore[arg-type]
        ConfigTypeError,
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_functions_that_scripts_import(row: str) -> None:
    check_call(*ROWS[row])


def test_a_smaller_file_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    patches.imwrite(str(path), PICTURE)
    compress_one_image(path, tmp_path / "b.jpg", max_dim=60)
    small, same = patches.imread(str(tmp_path / "b.jpg")), patches.imread(str(path))
    assert small is not None and small.shape == (45, 60, 3)
    compress_one_image(path)
    assert same is not None and (same == PICTURE).all()
    with pytest.raises(NotFoundError, match="cannot be read"):
        compress_one_image(tmp_path / "none.png")
    with pytest.raises(ConfigError, match="cannot be written"):
        compress_one_image(path, tmp_path / "a.xyz")


class Twice(tasks.DetectionModel):
    """A network derived from the general class, as scripts for YOLO do it: its loss counts twice."""

    def loss(self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False) -> tuple[torch.Tensor, Any]:
        total, items = super().loss(batch, preds)
        return 2 * total, items


@pytest.mark.parametrize("yaml", [TINY, YOLO_TINY], ids=["rtdetr", "yolo"])
def test_a_network_of_the_general_class_is_of_its_family(yaml: dict[str, Any], tmp_path: Path) -> None:
    network = Twice(yaml, verbose=False)
    plain = FAMILIES.networks()[network.checkpoint_name](yaml, verbose=False)
    plain.load_state_dict(network.state_dict())
    assert isinstance(network, Twice) and isinstance(network, type(plain))
    network.args = plain.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    box = torch.tensor([[0.5, 0.5, 0.3, 0.3]])
    batch = {"img": torch.rand(1, 3, 64, 64), "cls": torch.zeros(1, 1), "bboxes": box, "batch_idx": torch.zeros(1)}
    losses = []
    for net in (plain, network):
        torch.manual_seed(1)  # of the denoising queries
        losses.append(net.train().loss(batch)[0])
    assert torch.allclose(losses[1], 2 * losses[0])
    del network.criterion
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert type(other) is type(network)
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), network.parameters(), strict=True))
    tasks.save_checkpoint(tmp_path / "a.pt", {"model": tasks.pack_model(network)})
    assert type(RTDETR(tmp_path / "a.pt").model) is type(plain)
