"""Prediction on any source: read, preprocess, infer, post-process, draw, write, one batch at a time.

Memory is flat with `stream=True`: nothing of an earlier batch is kept. Legend: B images in a batch, H, W network input.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ultralytics.cfg import Args, get_cfg, get_save_dir
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.data.augment import LetterBox
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.data.loaders.prefetch import read_ahead
from ultralytics.data.utils import VID_FORMATS, suffix_of
from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results
from ultralytics.engine.validator import SHOWN_CONF, as_classes, load_backend, refuse_unsupported
from ultralytics.engine.writers import ResultWriter
from ultralytics.nn.cpu.versions import ModelVersion
from ultralytics.utils import LOGGER, TQDM, IterableSimpleNamespace
from ultralytics.utils.callbacks import Callback, CallbackMixin, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import Profile
from ultralytics.utils.torch_utils import select_device

Image = npt.NDArray[np.uint8]
STAGES = ("preprocess", "inference", "postprocess")


@dataclass
class Pass:
    """One pass over a source: what it started with, and what it counts."""

    args: Args
    imgsz: tuple[int, int]
    dataset: Any
    writer: ResultWriter
    timers: tuple[Profile, ...]
    seen: int = 0
    bar: TQDM[Any] | None = None
    film: str = ""

    def emit(self, result: Any, path: str, info: str) -> None:
        """Log one result and write what was asked for; embeddings are neither."""
        if not isinstance(result, Results):
            return
        if self.args.verbose and not self._advance(path):
            ms = sum(v for v in result.speed.values() if v)
            LOGGER.info(f"{info}{self.imgsz[0]}x{self.imgsz[1]} {result.verbose()}{ms:.1f}ms")
        if self.writer.active:
            result.save_dir = str(self.writer.root)
            self.writer.write(result, path, fps=self._frame_rate(path))

    def _advance(self, path: str) -> bool:
        """Move the bar of a video file that is being annotated; False for anything else, which has lines instead."""
        total = self.dataset.lengths.get(path) if self.args.save else None
        if path != self.film:
            self.close_bar()
        if total is None:
            return False
        if self.bar is None:
            self.film, self.bar = path, TQDM(total=total or None, desc=Path(path).name, unit="frames")
        self.bar.update()
        return True

    def close_bar(self) -> None:
        """End the line of the video's bar."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.film = None, ""

    def _frame_rate(self, path: str) -> float | None:
        """Return the frame rate of what is seen of a video, stream or screen, None for a picture."""
        kind = self.dataset.source_type
        if not (kind.stream or kind.screenshot) and suffix_of(path) not in VID_FORMATS:
            return None
        return float(self.dataset.rates.get(path) or self.dataset.fps or 30.0) / int(self.args.vid_stride)

    def log_end(self) -> None:
        """Log mean time per image of each stage and where files went."""
        if not self.seen:
            LOGGER.warning("the source held no readable image")
        elif self.args.verbose and not self.args.embed:
            spent = zip(STAGES, self.timers, strict=True)
            parts = ", ".join(f"{t.t / self.seen * 1e3:.1f}ms {name}" for name, t in spent)
            LOGGER.info(f"Speed: {parts} per image at {self.imgsz[0]}x{self.imgsz[1]}")
        self.writer.log()


class RunFolder:
    """The folder of one place, chosen on first use, and the names that are taken in it."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._path: Path | None = None

    def path(self, args: Args) -> Path:
        """Return the folder; `args` name the place if it is not chosen yet."""
        if self._path is None:
            self._path = Path(get_save_dir(args))
        return self._path


class BasePredictor(CallbackMixin):
    """Run a detector over a source; a model family fills `postprocess`.

    A predictor can be used again and again; files of all its runs go to one folder, made when the first is written.
    Several threads may share one: the model runs one batch at a time, and each pass keeps the arguments that it started
    with. Who changes arguments before a pass of their own holds `lock` over both, as a call with arguments does.
    """

    # Config
    args: Args
    # Swappable parts
    model: Any
    # Run time: what the last batch left
    device: torch.device
    imgsz: tuple[int, int]
    dataset: Any
    source_type: Any
    batch: tuple[list[str], Any, list[str]] | None
    results: list[Results]
    plotted_img: Image | None
    speed: dict[str, float]
    seen: int

    def __init__(
        self,
        cfg: Any = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, list[Callback]] | None = None,
    ) -> None:
        given = dict(overrides) if overrides else None
        self.args = get_cfg(overrides=given) if cfg is None else get_cfg(cfg, given)
        refuse_unsupported(self.args)
        self.callbacks = Callbacks(_callbacks)
        self.model = None
        self.watched: ModelVersion | None = None  # what `model` is a copy of; set by who made the predictor
        self.dataset = self.source_type = self.batch = None
        self.results = []
        self.plotted_img = None
        self.speed = dict.fromkeys(STAGES, 0.0)
        self.seen = 0
        self._folder = RunFolder()
        self.lock = threading.RLock()

    @property
    def save_dir(self) -> Path:
        """The run folder; chosen on first use, made when the first file is written."""
        return self._folder.path(self.args)

    @property
    def conf(self) -> float:
        """Score above which a box is kept: `conf`, 0.25 when it is not given."""
        return SHOWN_CONF if self.args.conf is None else float(self.args.conf)

    @property
    def classes(self) -> list[int] | None:
        """Class ids to keep, None for all."""
        return as_classes(self.args.classes)

    def update_args(self, overrides: Mapping[str, Any] | IterableSimpleNamespace, reset: bool = False) -> None:
        """Change arguments between runs, with `reset` starting from the defaults again.

        A namespace is complete already and is taken as it is. A new place for the run (`project`, `name`, `save_dir`)
        starts a new run folder.
        """
        before = [self.args.get(k) for k in keys_with(Trait.PLACE)]
        if isinstance(overrides, IterableSimpleNamespace):
            self.args = get_cfg(overrides)
        else:
            self.args = get_cfg(None if reset else self.args, dict(overrides))
        refuse_unsupported(self.args)
        if [self.args.get(k) for k in keys_with(Trait.PLACE)] != before:
            self._folder = RunFolder()

    # ------------------------------------------------------------------------------------------------------ hooks
    def postprocess(self, preds: Any, im: torch.Tensor, originals: list[Image], paths: list[str]) -> list[Results]:
        """Turn raw output for `im` (B, C, H, W) into one `Results` per original image."""
        raise NotImplementedError

    def infer(self, im: torch.Tensor) -> Any:
        """Run the network on its input (B, C, H, W)."""
        return self.model(im)

    def class_filter(self) -> AbstractContextManager[None]:
        """Make the model predict only the classes asked for, until the block ends."""
        return nullcontext()

    # -------------------------------------------------------------------------------------------------------- run
    def __call__(
        self, source: Any = None, model: Any = None, stream: bool = False, **kwargs: Args
    ) -> list[Results] | Iterator[Results]:
        """Predict; return a `ResultList`, or with `stream` a generator that holds one batch at a time."""
        with self.lock:
            if kwargs:
                self.update_args(kwargs)
            results = self.stream_inference(source, model)
        return results if stream else ResultList(results)

    def predict_cli(self, source: Any = None, model: Any = None) -> None:
        """Predict for the files and the log alone: no results are kept."""
        for _ in self.stream_inference(source, model):
            pass

    def setup_model(self, model: Any = None) -> None:
        """Load the weights (a path) or wrap the module; done once, a later call changes nothing."""
        if self.model is not None:
            return
        weights = self.args.model if model is None else model
        if weights is None:
            raise ConfigError("no model to predict with", "pass model=weights.pt")
        self.device = select_device(self.args.device, verbose=False)
        self.model = self._backend(weights)

    def _backend(self, weights: Any) -> Any:
        """Return what runs the network; a backend that was given is used as it is."""
        return load_backend(weights, self.device, self.args)

    def setup_source(self, source: Any) -> Any:
        """Open the source and settle the network's input size."""
        source = self.args.source if source is None else source
        if source is None:
            raise ConfigError("predict needs source=, an image, video, folder, glob, list file or URL")
        stride = int(max(torch.as_tensor(self.model.stride).flatten().tolist()))
        size = check_imgsz(self.args.imgsz, stride=stride, min_dim=2)
        self.imgsz = (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) else (int(size), int(size))
        dataset = load_inference_source(
            source,
            batch=int(self.args.batch),
            vid_stride=self.args.vid_stride,
            buffer=self.args.stream_buffer,
            channels=self.channels,
        )
        if isinstance(source, torch.Tensor):  # taken as it is
            self.imgsz = (int(source.shape[-2]), int(source.shape[-1]))
        return dataset

    @property
    def channels(self) -> int:
        """Image channels that the network takes: 3 colour or 1 grey."""
        return int(getattr(self.model, "channels", 3))

    def stream_inference(self, source: Any = None, model: Any = None) -> Iterator[Results]:
        """Yield the `Results` of each image in turn; model and source are opened before the first is asked for.

        The generator may be dropped at any point: open videos are finished then.
        """
        with self.lock:  # while a batch runs, the arguments here are those of its pass
            self.setup_model(model)
            dataset, args, folder = self.setup_source(source), self.args, self._folder
            writer = ResultWriter(args, lambda: folder.path(args), folder.used)
            timers = tuple(Profile(device=self.device) for _ in STAGES)
            return self._stream(Pass(args, self.imgsz, dataset, writer, timers))

    def _stream(self, run: Pass) -> Iterator[Results]:
        self.dataset, self.source_type, self.seen = run.dataset, run.dataset.source_type, 0
        self.run_callbacks("on_predict_start")
        try:
            with closing(read_ahead(run.dataset)) as batches:
                for item in batches:
                    results = self._run_batch(item, run)
                    for result, path, info in zip(results, item[0], item[2], strict=True):
                        run.emit(result, path, info)
                    self.plotted_img = run.writer.drawn
                    run.seen += len(results)
                    yield from results
            run.close_bar()
            run.log_end()
        finally:
            run.close_bar()
            run.writer.close()
            run.dataset.close()
        self.run_callbacks("on_predict_end")

    def _run_batch(self, item: tuple[list[str], Any, list[str]], run: Pass) -> list[Any]:
        """Take one batch through all stages; return its results (with `embed`, its vectors)."""
        paths, images, _ = self.batch = item
        self.run_callbacks("on_predict_batch_start")
        before = [t.t for t in run.timers]
        with self._bound(run), torch.no_grad():
            with run.timers[0]:
                im = self.preprocess(images)
            if self.args.embed:
                return list(self.model(im, embed=self.args.embed))
            with run.timers[1], self.class_filter():
                preds = self.infer(im)
            with run.timers[2]:
                results = self.postprocess(preds, im, to_bgr_images(images), paths)
        spent = [(t.t - t0) * 1e3 / len(results) for t, t0 in zip(run.timers, before, strict=True)]
        self.speed = dict(zip(STAGES, spent, strict=True))
        self.results = results
        self.run_callbacks("on_predict_postprocess_end")
        for result in results:
            result.speed = dict(zip(STAGES, spent, strict=True))
        self.seen += len(results)
        self.run_callbacks("on_predict_batch_end")
        return results

    @contextmanager
    def _bound(self, run: Pass) -> Iterator[None]:
        """Hold the model, under the arguments that the pass started with: other passes may have changed them since."""
        with self.lock:
            now = self.args, self.imgsz
            self.args, self.imgsz = run.args, run.imgsz
            try:
                yield
            finally:
                self.args, self.imgsz = now

    def preprocess(self, images: list[Image] | torch.Tensor) -> torch.Tensor:
        """Return the network input (B, C, H, W), RGB, 0..1; a tensor that was given is taken as it is."""
        if isinstance(images, torch.Tensor):
            im = images.to(self.device).float()
        else:
            stack = np.stack([self.pre_transform(x) for x in images])  # (B, H, W, C)
            chw = stack[..., ::-1].transpose(0, 3, 1, 2).copy()  # (B, C, H, W)
            im = torch.from_numpy(chw).to(self.device).float().div_(255)
        return im.half() if self.model.fp16 else im

    def pre_transform(self, image: Image) -> Image:
        """Resize one image to the network input: stretched, or with `letterbox` padded to keep its aspect."""
        if self.channels == 1:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]
        resized: Image = LetterBox(self.imgsz, scale_fill=not self.args.letterbox)(image=image)
        return resized


def to_bgr_images(images: list[Image] | torch.Tensor) -> list[Image]:
    """Return the source images as (h, w, 3) BGR uint8; tensors (B, 3, h, w) are RGB in 0..1."""
    if not isinstance(images, torch.Tensor):
        return images
    array = (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, h, w, 3)
    return [np.ascontiguousarray(x[..., ::-1]) for x in array]
