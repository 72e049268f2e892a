"""Image classification data: a folder for each class, listed, checked, augmented by torchvision, reproducibly.

Layout: `<root>/train/<class>/*.jpg` and `<root>/val/<class>/*.jpg` (or `test`). Classes are the folders of the training
split in alphabetical order. Shapes: B images, H x W of a file, S side of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import find_classes, make_dataset
from torchvision.transforms import v2

from ultralytics.cfg import Args
from ultralytics.data.build import build_dataloader, fraction_of
from ultralytics.data.image_cache import ImageCache, cache_mode
from ultralytics.data.images import imread, resize
from ultralytics.data.labels.cache import cached_scan, content_key
from ultralytics.data.labels.parse import Issue, LabelRows, VerifiedImage, scan_images, verify_rows
from ultralytics.data.labels.report import Reporting
from ultralytics.data.labels.table import LabelTable
from ultralytics.data.types import FollowsEpochs
from ultralytics.data.utils import IMG_FORMATS, pick_fraction
from ultralytics.utils.errors import ConfigError, DatasetError, NotFoundError
from ultralytics.utils.files import user_path
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.torch_tools.arrays import Pixels

MARGIN = 1.15  # training images keep this much more than the input's side, for crops
POLICIES = {"randaugment": v2.RandAugment, "autoaugment": v2.AutoAugment, "augmix": v2.AugMix}
SUFFIXES = tuple(f".{suffix}" for suffix in sorted(IMG_FORMATS))
BILINEAR = v2.InterpolationMode.BILINEAR
WHOLE_IMAGE = np.array([[0.5, 0.5, 1, 1]], np.float32)
"""The box of what an image shows: all of it."""


# ------------------------------------------------------------------------------------------------------- description
def check_cls_dataset(data: str | Path, split: str = "val") -> dict[str, Any]:
    """Describe a folder of class folders: `path`, `train`, `val`, `test` (None if absent), `names`, `nc`, `channels`.

    Without a `val` folder, `test` or `validation` stands in for it. `split` must exist.

    Raises:
        NotFoundError: no such folder, or no `train`, or not the split.
        DatasetError: there are no class folders, or a split has a class that the training split lacks.
    """
    root = user_path(data).absolute()
    if not root.is_dir():
        raise NotFoundError(f"data={data}: no such folder", "give a folder that holds train/<class>/ and val/<class>/")
    folders = {name: root / name for name in ("train", "val", "test") if (root / name).is_dir()}
    if "train" not in folders:
        raise NotFoundError(
            f"{root}: there is no folder 'train'", "put the images into train/<class>/ and val/<class>/"
        )
    if "val" not in folders and (stand_in := _stand_in(root)) is not None:
        LOGGER.warning(f"{root}: there is no folder 'val'; '{stand_in.name}' is used")
        folders["val"] = stand_in
    if split not in folders:
        raise NotFoundError(f"{root}: there is no folder '{split}' (there is {', '.join(folders)})")
    names = dict(enumerate(_classes(folders["train"])))
    for folder in folders.values():
        extra = sorted(set(_classes(folder)) - set(names.values()))
        if extra:
            raise DatasetError(
                f"{folder}: class folder(s) {', '.join(extra[:5])} are not in {folders['train'].name}",
                "remove or rename them; the training folders name the classes",
            )
    splits = {name: str(folders[name]) if name in folders else None for name in ("train", "val", "test")}
    return {"path": root, **splits, "names": names, "nc": len(names), "channels": 3}


def _stand_in(root: Path) -> Path | None:
    return next((root / name for name in ("validation", "test") if (root / name).is_dir()), None)


def _classes(folder: Path) -> list[str]:
    """Return the class folders of a split, in alphabetical order."""
    try:
        return list(find_classes(folder)[0])
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: holds no class folders", "put the images into one folder for each class"
        ) from None


# -------------------------------------------------------------------------------------------------------- transforms
def classify_augmentations(imgsz: int, args: Args) -> v2.Compose:
    """Return the augmentation of a uint8 image (3, H, W) to (3, S, S), as the arguments of a run want it.

    `scale` s crops a part of the image of area 1 - s to 1 (a pair gives the two fractions), `degrees`, `translate` and
    `shear` move it, `fliplr` and `flipud` mirror it, `hsv_h`, `hsv_s` and `hsv_v` vary hue, saturation, and brightness
    and contrast, `auto_augment` is a policy of torchvision, `erasing` the probability of a blank patch.
    """
    steps: list[Any] = []
    if args.degrees or args.translate or args.shear:
        shift = (args.translate, args.translate) if args.translate else None
        steps.append(v2.RandomAffine(args.degrees, shift, shear=args.shear or None, interpolation=BILINEAR))
    steps.append(v2.RandomResizedCrop(imgsz, scale=_areas(args.scale), antialias=True))
    steps += [v2.RandomHorizontalFlip(args.fliplr), v2.RandomVerticalFlip(args.flipud)]
    if args.auto_augment:
        steps.append(_policy(args.auto_augment))
    if args.hsv_h or args.hsv_s or args.hsv_v:
        steps.append(v2.ColorJitter(args.hsv_v, args.hsv_v, args.hsv_s, min(args.hsv_h, 0.5)))
    if args.erasing:
        steps.append(v2.RandomErasing(args.erasing))
    return v2.Compose(steps)


def eval_transforms(imgsz: int) -> v2.Compose:
    """Return the resizing of an image (3, H, W) to (3, S, S): its shorter side to S, then the middle."""
    return v2.Compose([v2.Resize(imgsz, interpolation=BILINEAR, antialias=True), v2.CenterCrop(imgsz)])


def _areas(scale: float | Sequence[float]) -> tuple[float, float]:
    low, high = (1 - scale, 1.0) if isinstance(scale, (int, float)) else (scale[0], scale[1])
    return max(min(low, 1.0), 0.08), min(max(high, 0.08), 1.0)


def _policy(name: str) -> Any:
    if name.lower() not in POLICIES:
        raise ConfigError(f"auto_augment={name!r} is not known; choose one of {', '.join(POLICIES)}, or null")
    return POLICIES[name.lower()]()


def to_tensor(image: Pixels) -> Tensor:
    """Turn a BGR image (H, W, 3) into an RGB tensor (3, H, W), uint8."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))  # (3, H, W)


def to_image(tensor: Tensor) -> Pixels:
    """Turn an RGB tensor (3, H, W), uint8, into a BGR image (H, W, 3)."""
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy()[..., ::-1])  # (H, W, 3)


# ---------------------------------------------------------------------------------------------------------- data set
class ClassificationDataset(FollowsEpochs, Reporting, Dataset[dict[str, Any]]):
    """Images in class folders; `dataset[(epoch, index)]` depends on (seed, epoch, index) alone.

    A sample is `img` uint8 (3, S, S) RGB, `cls` int64, `im_file`, `ori_shape`. Images that cannot be read are left out
    and listed in `report`. `args` are those of the run; `mode` "train" augments.

    Raises:
        DatasetError: no image can be used.
    """

    def __init__(self, folder: str | Path, args: Args, names: dict[int, str], mode: str = "val") -> None:
        self.folder, self.names = Path(folder), names
        self.imgsz = args.imgsz if isinstance(args.imgsz, int) else max(args.imgsz)
        self.augment, self.seed = mode == "train", int(args.seed)
        self.prefix, self.save_dir = colorstr(f"{mode}: "), args.get("save_dir")
        self.report: list[Issue] = []
        self.labels = self._scan(fraction_of(args.fraction, mode))
        self.im_files = self.labels.im_files
        self.transforms = classify_augmentations(self.imgsz, args) if self.augment else None
        self._fit = eval_transforms(self.imgsz)
        tag = f"{self.imgsz}{'t' if self.augment else 'v'}"
        sizes = [3 * h * w for h, w in map(self._kept, self.labels.shapes.tolist())]
        self.images = ImageCache(cache_mode(args.cache), self.im_files, self._read, tag, self.labels.shapes, sizes)
        self.images.fill(f"{self.prefix}caching images")
        self.set_epoch(0)

    def _scan(self, fraction: float) -> LabelTable:
        """List the images of all classes and leave out what cannot be read; what is known of a list is kept on disk."""
        index = {name: i for i, name in self.names.items()}
        listed = dict(make_dataset(str(self.folder), index, extensions=SUFFIXES, allow_empty=True))
        files = pick_fraction(list(listed), fraction, self.seed) if listed else []

        def verify(file: str) -> VerifiedImage:
            return verify_rows(file, file, lambda _: LabelRows(np.full((1, 1), listed[file], np.float32), WHOLE_IMAGE))

        desc = f"{self.prefix}Scanning {self.folder}..."
        key = content_key(files, (), len(self.names), False, ["classify", *self.names.items()])
        cache = self.folder.with_name(f"{self.folder.name}.cache")
        scan = cached_scan(cache, lambda: scan_images(files, verify, desc), key, desc)
        self.report = scan.issues
        self._log_report("images are left out")
        if not scan.labels:
            kinds = " ".join(sorted(IMG_FORMATS))
            raise DatasetError(f"{self.folder}: none of {len(files)} images is usable", f"looked for {kinds}")
        LOGGER.info(f"{self.prefix}{self.folder}: {len(scan.labels)} images of {len(self.names)} classes")
        return LabelTable.from_dicts(scan.labels)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The class of each image."""
        return self.labels.cls.values[:, 0].astype(np.int64)

    @property
    def counts(self) -> list[int]:
        """Number of images of each class."""
        counts: list[int] = np.bincount(self.targets, minlength=len(self.names)).tolist()
        return counts

    def _read(self, i: int) -> Pixels:
        """Decode image i: in validation fitted to the input, in training at most somewhat larger."""
        image = imread(self.im_files[i])
        if image is None:
            raise DatasetError(
                f"{self.im_files[i]}: image cannot be decoded", "repair it, or remove it from the data set"
            )
        self.labels.set_shape(i, image.shape[:2])
        if not self.augment:
            return to_image(self._fit(to_tensor(image)))
        h, w = self._kept(image.shape[:2])
        return image if (h, w) == image.shape[:2] else resize(image, (w, h), cv2.INTER_AREA)

    def _kept(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the (h, w) to which an image of a shape (h, w) is brought before the transforms."""
        h, w = shape
        gain = min(self.imgsz * MARGIN / min(h, w), 1.0)
        return (round(h * gain), round(w * gain)) if self.augment else (self.imgsz, self.imgsz)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return a sample, by its index, an index that knows its epoch, or (epoch, index)."""
        at = self.at(key)
        index = int(at)
        image = to_tensor(self.images[index])
        if self.transforms is not None:
            with torch.random.fork_rng(devices=[]):
                state = np.random.SeedSequence((self.seed, at.epoch, index)).generate_state(1, np.uint64)
                torch.default_generator.manual_seed(int(state[0]) % 2**63)
                image = self.transforms(image)
        target = int(self.labels.cls.values[index, 0])
        return {"img": image, "cls": target, "im_file": self.im_files[index], "ori_shape": self.labels.shape(index)}

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def collate_fn(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join samples: `img` (B, 3, S, S), `cls` (B,), tuples of the rest."""
        joined: dict[str, Any] = {k: tuple(sample[k] for sample in batch) for k in ("im_file", "ori_shape")}
        return {
            **joined,
            "img": torch.stack([sample["img"] for sample in batch]),
            "cls": torch.tensor([sample["cls"] for sample in batch]),
        }


def build_classify_loader(
    dataset: ClassificationDataset, batch: int, workers: int, shuffle: bool, seed: int = 0, rank: int = -1
) -> DataLoader[Any]:
    """Return a loader; a shuffled one leaves out a last batch of a single image, which has no batch statistics.

    Raises:
        ConfigError: a shuffled loader could only give single images.
    """
    batch = min(batch, len(dataset))
    if shuffle and batch < 2:
        raise ConfigError(
            "a classifier cannot learn from single images: its batch norms need two", "use batch=2 or more"
        )
    loader = build_dataloader(dataset, batch, workers, shuffle=shuffle, seed=seed, rank=rank)
    if shuffle and len(loader.sampler) % batch == 1:  # type: ignore[arg-type]
        return build_dataloader(dataset, batch, workers, shuffle=shuffle, seed=seed, rank=rank, drop_last=True)
    return loader
