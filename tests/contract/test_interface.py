"""Calls that scripts, clients and test suites of the `ultralytics` interface make, each with what it must give.

One tiny run is made for all of them. A row is a call and what is expected of its result: a value, a predicate, or an
error with a part of its text.
"""

from __future__ import annotations

import importlib
import inspect
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import ultralytics
from tests.contract.calls import check_call
from tests.engine.tiny import IMAGES, TINY, draw, small_trainer, spread_network, write_dataset
from ultralytics import RTDETR, YOLO
from ultralytics.cli.main import entrypoint
from ultralytics.data.augment import Format, RandomFlip
from ultralytics.data.build import build_dataloader
from ultralytics.data.loaders.files import LoadPilAndNumpy, LoadTensor
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.data.split import autosplit
from ultralytics.data.utils import exif_size, get_hash
from ultralytics.engine.export.exporter import EXPORT_FORMATS, export_names
from ultralytics.engine.exporter import export_formats
from ultralytics.engine.results import Masks, Results
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn import tasks
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.metadata import CONFIG_FILE, METADATA_KEY, ExportMetadata
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.modules import head as nn_head
from ultralytics.utils import ASSETS, SETTINGS, TryExcept, checks, downloads, files, metrics, ops, patches, torch_utils
from ultralytics.utils.config.absent import ABSENT_FEATURES, ABSENT_MODULES
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError, UserError
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics
from ultralytics.utils.plotting import Annotator
from ultralytics.utils.torch_tools.training import ModelEMA

FAST: dict[str, Any] = {"imgsz": 64, "device": "cpu", "amp": False, "verbose": False}
PICTURE = draw(*IMAGES[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `a.pt`, `data/`, `a.torchscript` and `a.onnx`; the working folder of the module's tests."""
    root = tmp_path_factory.mktemp("interface")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        model = RTDETR(TINY)
        model.model = spread_network()
        model.save(root / "a.pt")
        write_dataset(root / "data")
        for form in ("torchscript", "onnx"):
            RTDETR(root / "a.pt").export(format=form, imgsz=64, simplify=False)
        yield root


@pytest.fixture(scope="module")
def model(folder: Path) -> RTDETR:
    return RTDETR(folder / "a.pt")


@pytest.fixture(scope="module")
def trainer(folder: Path) -> Any:
    """A run of two epochs, validated."""
    run = small_trainer(folder / "data" / "data.yaml", folder, epochs=1, plots=True)
    run.final_val = True
    run.train()
    return run


# -------------------------------------------------------------------------------------------------- attributes
TRAINER = """lr plots validator epoch_time epoch_time_start train_time_start loss loss_items loss_names best_fitness
fitness start_epoch accumulate amp stride world_size ddp resume save_period plot_idx freeze_layer_names tloss metrics
epoch epochs save_dir wdir last best csv args model ema optimizer scheduler train_loader test_loader data device
batch_size stop stopper callbacks""".split()
VALIDATOR = """nc niou is_coco class_map stats metric_keys loss is_lvis names save_dir plots seen jdict speed iouv
device data""".split()
PREDICTOR = """txt_path done_warmup stream results batch plotted_img dataset source_type imgsz save_dir seen speed
model""".split()


@pytest.mark.parametrize(("owner", "names"), [("", TRAINER), ("validator", VALIDATOR)])
def test_attributes_that_callbacks_read(trainer: Any, owner: str, names: list[str]) -> None:
    read = getattr(trainer, owner) if owner else trainer
    assert [name for name in names if not hasattr(read, name)] == []


def test_attributes_of_a_predictor(model: RTDETR) -> None:
    model.predict(PICTURE, **FAST)
    assert [name for name in PREDICTOR if not hasattr(model.predictor, name)] == []


def test_figures_for_loggers(trainer: Any) -> None:
    assert set(trainer.lr) == {"lr/pg0", "lr/pg1", "lr/pg2"} and all(isinstance(p, Path) for p in trainer.plots)
    assert set(torch_utils.model_info_for_loggers(trainer)) == {
        "model/parameters",
        "model/GFLOPs",
        "model/speed_PyTorch(ms)",
    }
    assert trainer.callbacks["on_train_start"] == []


def test_rows_of_a_run_as_columns(trainer: Any, tmp_path: Path) -> None:
    head, row = (line.split(",") for line in trainer.csv.read_text().splitlines())
    columns = trainer.read_results_csv()
    assert list(columns) == head and columns == {k: [float(v)] for k, v in zip(head, row, strict=True)}
    empty = small_trainer(trainer.save_dir.parent / "data" / "data.yaml", tmp_path)
    assert empty.read_results_csv() == {}


def test_validation_knows_its_folder(model: RTDETR, folder: Path) -> None:
    metrics = model.val(data=str(folder / "data/data.yaml"), project="v", name="x", plots=False, **FAST)
    assert isinstance(metrics, DetMetrics) and Path(metrics.save_dir) == Path("v/x")


# --------------------------------------------------------------------------------------------------- signatures
@pytest.mark.parametrize(
    ("function", "names"),
    [
        (AutoBackend.__init__, "model device dnn data fp16 fuse verbose channels_last end2end"),
        (AutoBackend.warmup, "imgsz im"),
        (build_dataloader, "dataset batch workers shuffle rank drop_last pin_memory device"),
        (ConfusionMatrix.__init__, "names task save_matches"),
        (tasks.load_checkpoint, "weight device inplace fuse"),
        (checks.print_checks, "verbose device"),
        (Results.update, "boxes masks probs obb keypoints semantic_mask depth"),
        (RandomFlip.__init__, "p direction flip_idx"),
        (
            Format.__init__,
            "bbox_format normalize return_mask return_keypoint return_obb mask_ratio mask_overlap batch_idx bgr",
        ),
        (checks.check_file, "file suffix download download_dir hard"),
        (checks.check_yaml, "file suffix hard"),
        (checks.check_suffix, "file suffix msg"),
        (checks.check_imgsz, "imgsz stride min_dim max_dim floor"),
        (checks.check_version, "current required name hard verbose msg"),
        (checks.check_requirements, "requirements exclude install cmds constrain"),
        (downloads.safe_download, "url file dir unzip delete curl retry min_bytes exist_ok progress"),
        (downloads.download, "url dir unzip delete curl threads retry exist_ok"),
        (files.get_latest_run, "search_dir"),
        (ops.scale_coords, "img1_shape coords img0_shape ratio_pad normalize padding"),
        (torch_utils.scale_img, "img ratio same_shape gs"),
        (torch_utils.one_cycle, "y1 y2 steps"),
        (torch_utils.copy_attr, "a b include exclude"),
        (torch_utils.unwrap_model, "m"),
        (LoadPilAndNumpy.__init__, "im0 channels"),
        (LoadTensor.__init__, "im0"),
        (autosplit, "path weights annotated_only"),
        (Annotator.rectangle, "xy fill outline width"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_arguments_come_in_the_order_of_the_interface(function: Callable[..., Any], names: str) -> None:
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    assert parameters[: len(names.split())] == names.split()


def test_a_switch_in_the_place_of_the_batch(model: RTDETR) -> None:
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain, positional = (model.model.predict(x, False, *more)[0] for more in ((), (False,)))
    assert torch.equal(plain, positional)
    with pytest.raises(ConfigError, match="augment=True"):
        model.model.predict(x, False, True)


# ---------------------------------------------------------------------------------------------------- functions
def turned_picture() -> Image.Image:
    """A picture of 6 x 8 px that is to be turned by a quarter."""
    picture = Image.new("RGB", (6, 8))
    picture.getexif()[274] = 6
    return picture


def fails() -> None:
    raise OSError("lost")


ROWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "version of a number": (lambda: checks.check_version("8.2.0", "8.0.0"), True),
    "version of a package": (lambda: checks.check_version("numpy", ">=1.0,<999"), True),
    "version that is too old": (lambda: checks.check_version("1.0", ">=2.0"), False),
    "version, hard": (lambda: checks.check_version("1.0", ">=2.0", hard=True), ConfigError),
    "python": (lambda: checks.check_python("3.8"), True),
    "ascii": (lambda: (checks.is_ascii("abc"), checks.is_ascii("é")), (True, False)),
    "screen": (lambda: isinstance(checks.check_imshow(warn=True), bool), True),
    "weights by name": (lambda: downloads.attempt_download_asset("yolo99.pt"), NotFoundError),
    "address": (lambda: (downloads.is_url("https://a.b/c"), downloads.is_url("c.zip")), (True, False)),
    "file of an address": (lambda: downloads.url2file("https://a.b/c%2Fd.zip?k=1"), "d.zip"),
    "an error that is caught": (lambda: TryExcept("m", verbose=False)(fails)(), None),
    "smart value": (lambda: ultralytics.cfg.smart_value("[1, 2]"), [1, 2]),  # type: ignore[attr-defined]
    "joined pieces": (lambda: ultralytics.cfg.merge_equals_args(["a", "=", "1"]), ["a=1"]),  # type: ignore[attr-defined]
    "checked value": (lambda: ultralytics.cfg.check_cfg({"epochs": "x"}), UserError),  # type: ignore[attr-defined]
    "unknown key": (
        lambda: ultralytics.cfg.check_dict_alignment({"imgsz": 1}, {"img_size": 2}),  # type: ignore[attr-defined]
        UserError,
    ),
    "one cycle": (lambda: round(torch_utils.one_cycle(1, 0.1, 10)(10), 6), 0.1),
    "scaled images": (lambda: tuple(torch_utils.scale_img(torch.rand(1, 3, 64, 64), 0.7).shape), (1, 3, 64, 64)),
    "clipped points": (lambda: ops.clip_coords(np.array([[-1.0, 99.0]]), (50, 60)).tolist(), [[0.0, 50.0]]),
    "points of a letterbox": (
        lambda: ops.scale_coords((64, 64), np.array([[32.0, 32.0]]), (100, 200)).tolist(),
        [[100.0, 50.0]],
    ),
    "profiled modules": (lambda: torch_utils.profile_ops(torch.rand(1, 3, 8, 8), nn.Conv2d(3, 4, 1), n=1)[0][0], 16),
    "settings of the interface": (
        lambda: [SETTINGS[k] for k in ("sync", "uuid", "hub", "wandb")],
        [False, "", False, False],
    ),
    "im0 of arrays": (lambda: LoadPilAndNumpy(im0=PICTURE).im0[0].shape, PICTURE.shape),
    "im0 of a tensor": (lambda: tuple(LoadTensor(torch.rand(3, 32, 32)).im0.shape), (1, 3, 32, 32)),
    "tensor to draw on": (lambda: Annotator(torch.zeros(8, 9, 3)).result().shape, (8, 9, 3)),
    "masks": (lambda: Format(return_mask=True), ConfigError),
    "a classifier's matrix": (lambda: ConfusionMatrix({0: "a"}, task="classify").matrix.shape, (1, 1)),
    "names for isinstance": (lambda: isinstance(spread_network(), tasks.SegmentationModel), False),
    "results for isinstance": (lambda: isinstance(Results(PICTURE, "a.png", {}).boxes, Masks), False),
    "metrics for isinstance": (lambda: isinstance(DetMetrics({0: "a"}), metrics.PoseMetrics), False),
    "metrics that are not here": (lambda: metrics.OBBMetrics(names={0: "a"}), ConfigError),
    "results that are not here": (lambda: Masks(torch.zeros(1), (1, 1)), ConfigError),
    "heads": (lambda: nn_head.Detect.__name__, "Detect"),
    "networks that are not here": (lambda: tasks.PoseModel("x.yaml"), ConfigError),
    "names of a network without any": (
        lambda: export_names(SimpleNamespace(names=None, nc=2)),  # type: ignore[arg-type]
        {0: "class0", 1: "class1"},
    ),
    "cleaned name": (lambda: ops.clean_str("rtsp://a.b:1/x?y"), "rtsp___a.b_1_x_y"),  # type: ignore[attr-defined]
    "empty array": (lambda: ops.empty_like(np.ones((2, 3), np.int64)).shape, (2, 3)),  # type: ignore[attr-defined]
    "empty tensor": (lambda: ops.empty_like(torch.ones(2, dtype=torch.int8)).dtype, torch.float32),  # type: ignore[attr-defined]
    "version of torch": (lambda: (torch_utils.TORCH_1_9, torch_utils.TORCH_99_0), (True, False)),
    "formats": (lambda: {len(column) for column in export_formats().values()}, {len(EXPORT_FORMATS) + 1}),
    "arguments of a validator": (
        lambda: [RTDETRValidator(args=given).args.imgsz for given in ({"imgsz": 96}, SimpleNamespace(imgsz=96))],
        [96, 96],
    ),
    "image size as a string": (
        lambda: [ultralytics.cfg.get_cfg(overrides={"imgsz": v}).imgsz for v in ("64", "(64, 32)")],  # type: ignore[attr-defined]
        [64, [64, 32]],
    ),
    "an image that cannot be patched": (lambda: patches.imread("none.png"), None),
    "upright size": (lambda: exif_size(turned_picture()), (8, 6)),
    "hash of files": (lambda: get_hash(["no.txt"]) != get_hash(["na.txt"]), True),
    "pictures": (lambda: sorted(p.name for p in ASSETS.iterdir()), ["bus.jpg", "zidane.jpg"]),
}


@pytest.mark.parametrize("row", ROWS)
def test_functions_that_scripts_import(row: str) -> None:
    check_call(*ROWS[row])


def test_weights_without_the_state_of_the_run(trainer: Any, folder: Path) -> None:
    before = trainer.last.read_bytes()
    slim = torch_utils.strip_optimizer(trainer.last, folder / "slim.pt", {"date": "today"})
    assert slim["optimizer"] is None and slim["date"] == "today" and trainer.last.read_bytes() == before
    assert (folder / "slim.pt").stat().st_size < len(before) / 2
    a, b = RTDETR(folder / "slim.pt").model.state_dict(), trainer.ema.ema.state_dict()
    assert all(torch.equal(a[key], b[key].float() if b[key].is_floating_point() else b[key]) for key in b)


def test_a_callback_that_is_alone(model: RTDETR) -> None:
    model.predict(PICTURE, **FAST)
    seen: list[str] = []
    model.predictor.add_callback("on_predict_end", lambda _: seen.append("a"))
    model.predictor.set_callback("on_predict_end", lambda _: seen.append("b"))
    model.predictor.run_callbacks("on_predict_end")
    model.predictor.callbacks.clear("on_predict_end")
    assert seen == ["b"]


def test_figures_of_a_run_name_their_precision(trainer: Any) -> None:
    """In its last file and in its checkpoints; results.csv stays numbers."""
    final = json.loads((trainer.save_dir / "final_metrics.json").read_text())
    assert (final["weights"], final["precision"], final["images"]) == ("weights/best.pt", "float32", len(IMAGES))
    assert final["metrics"] == trainer.metrics and final["metrics"]["metrics/mAP50(B)"] >= 0
    for file in (trainer.best, trainer.last):
        assert read_checkpoint(file)["metrics_precision"] == "float32"
        assert any("computed in float32" in line for line in RTDETR.contents(file))
    rows = trainer.csv.read_text().splitlines()
    assert all(float(value) >= 0 for value in rows[1].split(","))


def test_functions_for_files(folder: Path) -> None:
    place = folder / "with space"
    place.mkdir()
    (place / "a.txt").write_text("a")
    packed = downloads.zip_directory(place)
    assert zipfile.ZipFile(packed).namelist() == ["with space/a.txt"]
    assert (downloads.unzip_file(packed, folder / "out") / "with space" / "a.txt").read_text() == "a"
    with files.spaces_in_path(place) as copy:
        (copy / "b.txt").write_text("b")
    assert (
        (place / "b.txt").read_text() == "b" and files.file_age(place) == 0 and files.file_date(place).count("-") == 2
    )
    with files.WorkingDirectory(place):
        assert Path("a.txt").exists()
    assert checks.check_is_path_safe(place, place / "a.txt") and not checks.check_is_path_safe(place, packed)
    counts = autosplit(folder / "data" / "images", weights=(0.5, 0.5, 0.0), annotated_only=True)
    assert sum(counts.values()) == 2 * sum(bool(rows) for _, rows in IMAGES) + 2 * sum(not rows for _, rows in IMAGES)
    with pytest.raises(ConfigError, match="three numbers"):
        autosplit(folder, weights=(1.0,))


# ---------------------------------------------------------------------------------------------- files, both ways
def of_interface(path: Path, form: str) -> Path:
    """Return a copy of an exported file that holds what the interface stores, and nothing of this package."""
    metadata = AutoBackend(path).metadata
    assert metadata is not None
    values = {**metadata.common_values(), "args": {"dynamic": False, "quantize": None}, "end2end": False}
    target = path.with_stem("stock")
    if form == "onnx":
        graph = onnx.load(path)
        del graph.metadata_props[:]
        onnx.helper.set_model_props(graph, {k: str(v) for k, v in values.items()})
        onnx.save(graph, target)
    else:
        module = torch.jit.load(str(path))
        torch.jit.save(module, str(target), _extra_files={CONFIG_FILE: json.dumps(values)})
    return target


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_exports_of_the_interface_open_here(folder: Path, form: str) -> None:
    ours = folder / f"a.{form}"
    theirs = of_interface(ours, form)
    a, b = (RTDETR(path).predict(PICTURE, conf=0.001, device="cpu", verbose=False)[0] for path in (ours, theirs))
    assert a.boxes is not None and b.boxes is not None
    assert torch.equal(torch.as_tensor(a.boxes.data), torch.as_tensor(b.boxes.data)) and b.names == a.names


@pytest.mark.parametrize(
    ("values", "word"), [({}, "no head"), ({"head": "RTDETRDecoder", "names": "{", "imgsz": "[64, 64]"}, "damaged")]
)
def test_metadata_of_the_interface_are_checked(values: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        ExportMetadata.of_interface(values, "x.onnx", "onnx")
    assert METADATA_KEY not in values


def test_a_pickled_checkpoint_for_scripts_that_read_the_network(model: RTDETR, folder: Path) -> None:
    path = model.export(format="stock")
    network = torch.load(path, weights_only=False)["model"]
    state = network.float().state_dict()
    assert (
        path.endswith("a_stock.pt") and network.names == model.names and state.keys() == model.model.state_dict().keys()
    )
    assert torch.equal(state["model.0.conv.weight"], model.model.state_dict()["model.0.conv.weight"])
    with pytest.raises(CheckpointError, match="pickled objects"):  # it is for other trees: nothing is unpickled here
        RTDETR(path)
    assert (folder / "a_stock.pt").exists()


# ------------------------------------------------------------------------------------------------ use of a model
def test_a_loader_as_a_source(model: RTDETR) -> None:
    direct = model.predict(PICTURE, conf=0.001, **FAST)[0]
    opened = model.predict(load_inference_source(PICTURE), conf=0.001, **FAST)[0]
    assert direct.boxes is not None and opened.boxes is not None
    assert torch.equal(torch.as_tensor(direct.boxes.data), torch.as_tensor(opened.boxes.data))
    assert model.transforms is None


def test_pairs_that_a_callback_makes_are_returned(model: RTDETR, tmp_path: Path) -> None:
    """Results with their images, as scripts write it; the files are those of the results."""
    owner = RTDETR(model.ckpt_path or "")

    def pair(predictor: Any) -> None:
        predictor.results = zip(predictor.results, predictor.batch[1], strict=True)

    owner.add_callback("on_predict_batch_end", pair)
    places = {"project": str(tmp_path), "name": "p"}
    ((result, image),) = owner.predict(PICTURE, conf=0.001, save_txt=True, **places, **FAST)
    assert image.shape == PICTURE.shape and len(result.boxes) > 0 and list((tmp_path / "p" / "labels").glob("*.txt"))


@pytest.mark.filterwarnings("ignore")
def test_a_network_is_quantised_for_use() -> None:
    network = torch.ao.quantization.quantize_dynamic(spread_network(), {nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64))[0].isfinite().all()


def test_an_average_that_is_not_finite_follows_the_network(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ModelEMA(network)
    average.ema[0].weight.data[0, 0] = torch.inf  # type: ignore[index, union-attr, operator]
    average.ema[1].running_mean[0] = torch.nan  # type: ignore[index]
    assert average.resync(network) == ["0.weight", "1.running_mean"] and average.resync(network) == []
    assert torch.equal(average.ema.state_dict()["0.weight"], network.state_dict()["0.weight"])
    network[0].weight.data.fill_(torch.nan)
    average.ema[0].weight.data.fill_(torch.nan)  # type: ignore[index, union-attr, operator]
    assert average.resync(network) == []  # nothing finite to take over


@pytest.mark.parametrize("family", ["rtdetr", "yolo"])
@pytest.mark.parametrize("rect", [True, False])
def test_the_call_sequence_of_dataset_tools(folder: Path, rect: bool, family: str) -> None:
    """Thirteen steps: names, classes, a predictor by hand, its arguments, and its stages one by one."""
    yolo = {**TINY, "head": [[[2, 3, 4], 1, "Detect", ["nc"]]]}
    wrapper = YOLO(folder / "a.pt" if family == "rtdetr" else yolo)
    assert wrapper.task == "detect" and isinstance(wrapper, RTDETR) == (family == "rtdetr")
    others = (tasks.SegmentationModel, tasks.PoseModel, tasks.OBBModel, tasks.WorldModel)
    assert not isinstance(wrapper.model, others) and isinstance(wrapper.model, tasks.DetectionModel)
    cls = wrapper.task_map[wrapper.task]["predictor"]
    predictor = cls(overrides={"conf": 0.001, "save": False, "mode": "predict", "rect": rect, **FAST})
    predictor.setup_model(model=wrapper.model, verbose=False)
    assert predictor.model.names == wrapper.names and predictor.model.stride == 32
    predictor.args.conf = 0.01
    (resized,) = predictor.pre_transform([PICTURE])
    assert resized.shape == (64, 64, 3)
    predictor.setup_source([PICTURE])
    predictor.batch = next(iter(predictor.dataset))
    _, images, _ = predictor.batch
    network_input = predictor.preprocess(images)
    assert network_input.shape == (1, 3, 64, 64)
    with torch.no_grad():
        raw = predictor.inference(network_input)
    (result,) = predictor.postprocess(raw, network_input, images)
    assert result.orig_shape == PICTURE.shape[:2]
    assert family == "yolo" or (len(result.boxes) and float(result.boxes.conf.min()) > 0.01)


# -------------------------------------------------------------------------------------------------- what is absent
@pytest.mark.parametrize("name", ["profile"])
def test_a_method_that_is_absent_says_what_to_use(model: RTDETR, name: str) -> None:
    with pytest.raises(AttributeError) as e:
        getattr(model, name)
    assert ABSENT_FEATURES[name] in str(e.value) and "DetectionModel" not in str(e.value)


@pytest.mark.parametrize("command", ["hub", "login", "logout", "solutions", "segment", "pose", "obb"])
def test_a_command_that_is_absent_says_so_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entrypoint([command])
    first, *rest = capsys.readouterr().err.strip().splitlines()
    assert "not part of this package" in first and len(rest) <= 1
    assert ABSENT_FEATURES.get(command, "") in first


@pytest.mark.parametrize("module", ABSENT_MODULES)
def test_a_module_that_is_absent_says_what_to_use(module: str) -> None:
    found = importlib.import_module(module)
    with pytest.raises(ImportError, match="not part of this package"):
        _ = found.Anything
    assert not hasattr(found, "__path_of_nothing__")
    if Path(str(found.__file__)).name != "__init__.py":
        with pytest.raises(ModuleNotFoundError, match="not part of this package"):
            importlib.import_module(f"{module}.byte_tracker")


def test_an_argument_of_tracking_is_an_error_with_the_reason(model: RTDETR) -> None:
    with pytest.raises(UserError, match=r"persist.*use model\.track"):
        model.predict(PICTURE, persist=True, **FAST)
