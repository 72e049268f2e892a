"""Kinds of input: each prepares good ones in a folder, and runs one changed one as a user's call would."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
import torch
import yaml
from PIL import Image

from tests.engine.tiny import TINY, small_trainer, write_dataset
from tests.fuzz.mutate import ODD, TOKENS, mutated_bytes, mutated_text, mutated_tree
from tests.models.yolo.networks import V26
from tests.nn.checkpoint.hostile import module_code, zipped
from ultralytics.cfg import get_cfg
from ultralytics.cfg.schema import KEYS
from ultralytics.cli.grammar import parse_overrides
from ultralytics.data.formats.base import Split
from ultralytics.data.formats.coco import CocoReader
from ultralytics.data.formats.voc import VocReader
from ultralytics.data.images import decode, probe
from ultralytics.data.labels.cache import cached_scan, load_cache
from ultralytics.data.labels.parse import parse_labels, scan_images, verify_pair
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.training.nan_trace import NanFinding, Step
from ultralytics.engine.training.replay import replay, write_replay
from ultralytics.engine.training.state import resume_args
from ultralytics.nn.checkpoint.describe import describe_file
from ultralytics.nn.checkpoint.format import pack_model, read_checkpoint, save_checkpoint
from ultralytics.nn.detection import DetectionModel
from ultralytics.nn.tasks import RTDETRDetectionModel, YOLODetectionModel, load_checkpoint
from ultralytics.utils.config.settings import Settings
from ultralytics.utils.downloads import unpack


class Kind(Protocol):
    """One kind of input."""

    def __init__(self, folder: Path) -> None: ...

    def once(self, rng: random.Random) -> object:
        """Make one input and use it."""


def saved(value: Any) -> bytes:
    """What torch.save writes, for values that the package itself would refuse to write."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def network() -> RTDETRDetectionModel:
    """A small network."""
    torch.manual_seed(0)
    return RTDETRDetectionModel(TINY, verbose=False)


class Weights:
    """Checkpoints: bytes and values of our form, hand-made trees of upstream's, plain state dicts."""

    suffix = ".pt"
    yaml: ClassVar[dict[str, Any]] = TINY
    cls: ClassVar[type[DetectionModel]] = RTDETRDetectionModel

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"w{self.suffix}"
        torch.manual_seed(0)
        model = self.cls(self.yaml, verbose=False)
        save_checkpoint(folder / "good.pt", {"model": pack_model(model), "date": "2026", "train_metrics": {"a": 0.5}})
        self.good = read_checkpoint(folder / "good.pt")
        self.plain = dict(list(model.state_dict().items())[:8])

    def once(self, rng: random.Random) -> object:
        kind = rng.randrange(4)
        if kind == 0:
            data = mutated_bytes(rng, saved(self.plain))
        elif kind == 1:
            data = self._tree(rng)
        else:
            part = copy.copy(self.good)
            record = {k: v for k, v in part["model"].items() if k != "state_dict"}
            part.pop("model")
            mixed = mutated_tree(rng, {**part, "model": record})
            inner = mixed.get("model") if isinstance(mixed, dict) else None
            if isinstance(inner, dict):
                state = self.good["model"]["state_dict"]
                few = dict(list(state.items())[:4]) if rng.random() < 0.5 else state
                inner["state_dict"] = rng.choice((state, few, few))
            data = saved(mixed)
        self.file.write_bytes(data)
        describe_file(self.file)
        return load_checkpoint(self.file)

    def _tree(self, rng: random.Random) -> bytes:
        state = {"yaml": self.yaml, "names": {0: "a"}, "nc": 3, "args": {}, "stride": [8], "_parameters": {}}
        changed = mutated_tree(rng, state)
        changed = changed if isinstance(changed, dict) else {}
        head = b"\x80\x02}(" + pickle.dumps("model", 2)[2:-1]
        plain = {k: v for k, v in changed.items() if isinstance(k, str)}
        body = head + module_code(b"}", plain) + b"u."
        return mutated_bytes(rng, zipped(body), 2) if rng.random() < 0.3 else zipped(body)


class YoloWeights(Weights):
    """The same of a YOLO network with two branches."""

    yaml = V26
    cls = YOLODetectionModel


class Safetensors:
    """Files of safetensors: bytes of the header, and the description in it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "w.safetensors"
        save_checkpoint(self.file, {"model": pack_model(network()), "date": "2026"})
        data = self.file.read_bytes()
        size = int.from_bytes(data[:8], "little")
        self.header, self.body = json.loads(data[8 : 8 + size]), data[8 + size :]

    def once(self, rng: random.Random) -> object:
        header = self.header
        meta = dict(header["__metadata__"])
        if rng.random() < 0.6:
            changed = mutated_tree(rng, json.loads(meta["rtdetr-shsa"]))
            meta["rtdetr-shsa"] = json.dumps(changed, default=str)
            header = {**header, "__metadata__": meta}
        elif rng.random() < 0.7:
            header = mutated_tree(rng, header)
        text = json.dumps(header, default=str).encode()
        if rng.random() < 0.2:
            text = mutated_bytes(rng, text)
        self.file.write_bytes(len(text).to_bytes(8, "little") + text + self.body)
        describe_file(self.file)
        return load_checkpoint(self.file)


class ModelYaml:
    """Model YAMLs: values and text."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "m.yaml"
        self.good: dict[str, Any] = {**copy.deepcopy(TINY), "activation": "nn.ReLU()", "scales": {"n": [1.0, 1.0, 64]}}

    def once(self, rng: random.Random) -> object:
        if rng.random() < 0.75:
            text = yaml.safe_dump(mutated_tree(rng, self.good), default_flow_style=None)
        else:
            text = mutated_text(rng, yaml.safe_dump(self.good, default_flow_style=None))
        self.file.write_bytes(text.encode(errors="surrogatepass"))
        return RTDETRDetectionModel(str(self.file), verbose=False)


class DataYaml:
    """Data YAMLs: values and text."""

    def __init__(self, folder: Path) -> None:
        self.file = write_dataset(folder / "set").parent / "d.yaml"
        self.good = {"path": ".", "train": "images/train", "val": "images/val", "nc": 3, "channels": 3}
        self.good |= {"names": {0: "a", 1: "b", 2: "c"}, "format": "yolo"}

    def once(self, rng: random.Random) -> object:
        good = yaml.safe_dump(self.good)
        changed = yaml.safe_dump(mutated_tree(rng, self.good)) if rng.random() < 0.6 else mutated_text(rng, good)
        data = changed.encode(errors="surrogatepass")
        self.file.write_bytes(mutated_bytes(rng, data, 3) if rng.random() < 0.2 else data)
        return check_det_dataset(self.file)


class Labels:
    """Label rows."""

    def __init__(self, folder: Path) -> None:
        self.good = "0 .5 .5 .2 .2\n1 .3 .3 .1 .2\n2 .1 .1 .2 .1 .2 .2\n"

    def once(self, rng: random.Random) -> object:
        return parse_labels(mutated_text(rng, self.good), nc=3, single_cls=rng.random() < 0.1)


class Images:
    """Image files of seven kinds: decoded as prediction does, and probed as a scan does."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "image.png"
        pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
        self.good = [cv2.imencode(f".{s}", pixels)[1].tobytes() for s in ("png", "jpg", "bmp", "webp", "tiff", "ppm")]
        gif = io.BytesIO()
        Image.fromarray(pixels).save(gif, "GIF")
        self.good.append(gif.getvalue())

    def once(self, rng: random.Random) -> object:
        data = rng.choice(self.good)
        start = rng.choice((len(data), 60))  # often the header alone
        changed = mutated_bytes(rng, data[:start], 4) + data[start:]
        self.file.write_bytes(changed)
        try:
            probe(self.file)
        except ValueError:  # the reason, as the scan reports it
            pass
        return decode(np.frombuffer(changed, np.uint8), rng.choice((1, 3, 4)))


class Coco:
    """Annotation files of COCO."""

    def __init__(self, folder: Path) -> None:
        write_dataset(folder / "set")
        self.images = sorted(str(p) for p in (folder / "set/images/train").iterdir())
        self.file = folder / "a.json"
        self.good = {
            "images": [
                {"id": i, "file_name": Path(p).name, "width": 90, "height": 90} for i, p in enumerate(self.images)
            ],
            "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
            "annotations": [
                {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0},
                {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [[1, 1, 9, 1, 9, 9]]},
            ],
        }

    def once(self, rng: random.Random) -> object:
        changed = mutated_tree(rng, self.good)
        text = json.dumps(changed, default=str)
        self.file.write_bytes(mutated_bytes(rng, text.encode(), 3) if rng.random() < 0.2 else text.encode())
        split = Split(str(Path(self.images[0]).parent), self.images, {0: "red", 1: "green"})
        return CocoReader(split, self.file).scan()


class Voc:
    """XML files of Pascal VOC."""

    def __init__(self, folder: Path) -> None:
        write_dataset(folder / "set")
        self.image = next(str(p) for p in (folder / "set/images/train").iterdir())
        self.file = Path(self.image).with_suffix(".xml")
        corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        row = f"<object><name>red</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
        self.good = (
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n<size> <width>9</width> </size>\n{row}</annotation>'
        )

    def once(self, rng: random.Random) -> object:
        text = mutated_text(rng, self.good).encode(errors="surrogatepass")
        self.file.write_bytes(mutated_bytes(rng, text) if rng.random() < 0.6 else text)
        return VocReader(Split(str(Path(self.image).parent), [self.image], {0: "red"})).scan()


class Replays:
    """Files of failed steps."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "replay.pt"
        batch = {"img": torch.rand(2, 3, 64, 64), "cls": torch.zeros(2, 1), "bboxes": torch.full((2, 4), 0.5)}
        batch |= {"batch_idx": torch.tensor([0.0, 1.0]), "im_file": ["a.png", "b.png"]}
        write_replay(self.file, network(), batch, Step(0, 0, 0), NanFinding("none", "nothing", (), ("a.png",)))
        self.good = torch.load(self.file, weights_only=True)
        self.data = self.file.read_bytes()

    def once(self, rng: random.Random) -> object:
        if rng.random() < 0.3:
            self.file.write_bytes(mutated_bytes(rng, self.data))
        else:
            record = {k: v for k, v in self.good["model"].items() if k != "state_dict"}
            changed = mutated_tree(rng, {**self.good, "model": record})
            if isinstance(changed, dict) and isinstance(changed.get("model"), dict):
                changed["model"]["state_dict"] = self.good["model"]["state_dict"]
            self.file.write_bytes(saved(changed))
        return replay(self.file, "cpu")


class Resumes:
    """States of runs: read, checked and taken over by a run of the same network."""

    def __init__(self, folder: Path) -> None:
        data = write_dataset(folder / "set")
        run = small_trainer(data, folder, epochs=2, val=False)
        run.final_val = False
        run.train()
        self.file = run.last
        self.good = read_checkpoint(self.file)
        self.good["train_args"] = {**self.good["train_args"], "epochs": 3}
        self.run = run

    def once(self, rng: random.Random) -> object:
        heavy = {"model", "ema"}
        light = {k: v for k, v in self.good.items() if k not in heavy}
        changed = mutated_tree(rng, light)
        if not isinstance(changed, dict):
            changed = {}
        self.file.write_bytes(saved({**{k: self.good[k] for k in heavy}, **changed}))
        args, checkpoint = resume_args(get_cfg(overrides={"resume": str(self.file)}))
        state = self.run.state
        state.restore(checkpoint)
        self.run.optimizer.step()
        return args


class Archives:
    """Zip and tar files that a data set is fetched as."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("a/b.txt", "text")
            z.writestr("a/c.txt", "more text " * 20)
        tarred = io.BytesIO()
        with tarfile.open(fileobj=tarred, mode="w:gz") as t:
            info = tarfile.TarInfo("a/b.txt")
            info.size = 4
            t.addfile(info, io.BytesIO(b"text"))
        self.good = {".zip": packed.getvalue(), ".tar.gz": tarred.getvalue()}
        self.count = 0

    def once(self, rng: random.Random) -> object:
        suffix = rng.choice(list(self.good))
        self.count += 1
        home = self.folder / f"n{self.count}"
        home.mkdir()
        (home / f"x{suffix}").write_bytes(mutated_bytes(rng, self.good[suffix], 4))
        try:
            return unpack(home / f"x{suffix}")
        finally:
            outside = [p for p in self.folder.iterdir() if not p.name.startswith("n")]
            if outside:
                raise AssertionError(f"written outside: {outside}")


class Arguments:
    """Tokens of the command line, and values of the Python interface."""

    def __init__(self, folder: Path) -> None:
        self.names = list(KEYS)

    def once(self, rng: random.Random) -> object:
        name = rng.choice(self.names)
        if rng.random() < 0.5:
            value = rng.choice((*TOKENS, "[1,2]", "{}", "(((", "1e999", "[[[]]]", "none", "True"))
            values = parse_overrides([f"{name}={value}", rng.choice(("plots", f"{name[:-1]}", "--save", "epochs=3"))])
        else:
            values = {name: rng.choice(ODD)(), "epochs": rng.choice((1, 10**400, "x"))}
        args = get_cfg(overrides=values)
        if args.source is not None:
            load_inference_source(args.source)
        return str(args)


class SettingsFile:
    """The file of settings: any content gives settings."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "settings.json"
        self.good = {"settings_version": "1", "runs_dir": "runs", "tensorboard": False}

    def once(self, rng: random.Random) -> object:
        text = json.dumps(mutated_tree(rng, self.good), default=str).encode()
        deep = b"[" * rng.choice((10, 100_000))
        self.file.write_bytes(rng.choice((text, mutated_bytes(rng, text), deep)))
        return str(Settings(self.file))


class Caches:
    """Label caches: what is not as it was written is scanned again."""

    def __init__(self, folder: Path) -> None:
        data = write_dataset(folder / "set").parent
        images = sorted(str(p) for p in (data / "images/train").iterdir())
        labels = [p.replace("images", "labels").replace(".png", ".txt") for p in images]
        self.file = folder / "train.cache"
        pairs = dict(zip(images, labels, strict=True))
        cached_scan(self.file, lambda: scan_images(images, lambda f: verify_pair(f, pairs[f], 3)), "key")
        self.data = self.file.read_bytes()

    def once(self, rng: random.Random) -> object:
        self.file.write_bytes(mutated_bytes(rng, self.data))
        return load_cache(self.file, "key")


KINDS: Mapping[str, type[Kind]] = {
    "weights": Weights,
    "yolo_weights": YoloWeights,
    "safetensors": Safetensors,
    "model_yaml": ModelYaml,
    "data_yaml": DataYaml,
    "labels": Labels,
    "images": Images,
    "coco": Coco,
    "voc": Voc,
    "replays": Replays,
    "resumes": Resumes,
    "archives": Archives,
    "arguments": Arguments,
    "settings": SettingsFile,
    "caches": Caches,
}
"""Every kind by its name."""
