"""Prediction on any source: read, preprocess, infer, post-process, draw, write, one batch at a time.

Memory is flat with `stream=True`: nothing of an earlier batch is kept. Shapes: B images in a batch, C channels,
H x W network input, D length of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ultralytics.cfg import Args, get_cfg
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.data.augment import LetterBox
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.data.loaders.prefetch import read_ahead
from ultralytics.engine.class_names import as_classes
from ultralytics.engine.prediction.run import STAGES, PredictRun, RunFolder
from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results
from ultralytics.engine.tracking.tracks import Tracks
from ultralytics.engine.validator import (
    SHOWN_CONF,
    RawOutput,
    WeightsSource,
    load_backend,
    refuse_unsupported,
)
from ultralytics.engine.writers import ResultWriter
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.cpu.versions import ModelVersion
from ultralytics.nn.families import letterboxes
from ultralytics.utils import ASSETS, LOGGER, IterableSimpleNamespace
from ultralytics.utils.callbacks import Callback, CallbackMixin, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.dist import ProcessLock
from ultralytics.utils.errors import ConfigError, refuse_uncalled
from ultralytics.utils.ops import Profile
from ultralytics.utils.torch_utils import select_device, wants_channels_last

Image: TypeAlias = npt.NDArray[np.uint8]
Images: TypeAlias = "list[Image] | Tensor"
"""Source images: (h, w, 3) BGR arrays, or a tensor (B, 3, h, w) RGB in 0..1."""

BatchItem: TypeAlias = "tuple[list[str], Images, list[str]]"
"""Paths, images, and the start of each image's log line."""

PREDICTOR_NOT_CALLED: Mapping[str, str] = {"show": "write_results, which the window is part of"}
"""Methods of the interface that a prediction has no place for, and what to replace instead."""


class BasePredictor(CallbackMixin):
    """Run a network over a source; a model family fills `postprocess`, and a user may replace any method.

    A predictor can be used again and again; files of all its runs go to one folder, made when the first is written.
    Several threads may share one: one batch at a time is in work, and while it is, `args` and `imgsz` are those that
    its pass started with. To change arguments before a pass, hold `lock` over both, as a call with arguments does.
    """

    # Swappable parts
    model: Any  # what runs the network; its attributes are those of `AutoBackend`
    callbacks: Callbacks
    # Run time: what the last batch left
    device: torch.device
    dataset: Any  # the opened source
    source_type: Any
    batch: BatchItem | None
    results: list[Any]  # of the last batch; what callbacks put here is what the caller gets
    plotted_img: Image | None
    speed: dict[str, float]
    seen: int
    stream: bool
    txt_path: Path | None
    done_warmup: bool

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] | IterableSimpleNamespace | None = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Callbacks | Mapping[str, list[Callback]] | None = None,
    ) -> None:
        refuse_uncalled(type(self), PREDICTOR_NOT_CALLED)
        given = dict(overrides) if overrides else None
        self._run: PredictRun | None = None  # the pass whose batch is in work
        self._imgsz = (0, 0)
        self.args = get_cfg(overrides=given) if cfg is None else get_cfg(cfg, given)
        refuse_unsupported(self.args)
        self.callbacks = Callbacks(_callbacks)
        self._followed = Callbacks()
        self.model = None
        self._version: ModelVersion | None = None  # of the network that `model` is a copy of
        self.dataset = self.source_type = self.batch = self.txt_path = None
        self.stream = self.done_warmup = False
        self.results = []
        self.plotted_img = None
        self.speed = dict.fromkeys(STAGES, 0.0)
        self.seen = 0
        self._folder = RunFolder()
        self.lock = ProcessLock()

    @property
    def args(self) -> Args:
        """The arguments: while a batch is in work, those of its pass."""
        return self._args if self._run is None else self._run.args

    @args.setter
    def args(self, args: Args) -> None:
        if self._run is not None:
            self._run.args = args
        self._args = args

    @property
    def imgsz(self) -> list[int]:
        """Height and width of the network input, px."""
        return list(self._imgsz if self._run is None else self._run.imgsz)

    @imgsz.setter
    def imgsz(self, imgsz: Sequence[int]) -> None:
        height, width = imgsz
        if self._run is not None:
            self._run.imgsz = (height, width)
        self._imgsz = (height, width)

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
        return as_classes(self.args.classes, getattr(self.model, "names", None) or {})

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

    def follow(self, callbacks: Callbacks) -> None:
        """Call another owner's functions beside those added here, each once, in place of those of the last call."""
        self.callbacks.remove(self._followed)
        self._followed = self.callbacks.add_missing(callbacks)

    # ------------------------------------------------------------------------------------------------------ hooks
    def postprocess(self, preds: RawOutput, img: Tensor, orig_imgs: Images) -> list[Results]:
        """Turn raw output for `img` (B, C, H, W) into one `Results` per original image; paths are in `batch[0]`."""
        raise NotImplementedError

    def construct_results(self, preds: Sequence[Tensor], img: Tensor, orig_imgs: Images) -> list[Results]:
        """Return the `Results` of a batch, from what is kept of each image."""
        paths = self.batch_paths()
        if len(paths) != len(preds):  # called outside of a pass
            paths = [f"image{i}.jpg" for i in range(len(preds))]
        rows = zip(preds, to_bgr_images(orig_imgs), paths, strict=True)
        return [self.construct_result(pred, img, original, path) for pred, original, path in rows]

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: Image, img_path: str) -> Results:
        """Return the `Results` of one image, from what is kept of it."""
        raise NotImplementedError

    def inference(self, im: Tensor, *args: object, **kwargs: object) -> RawOutput:
        """Run the network on its input (B, C, H, W)."""
        output: RawOutput = self.model(im, *args, **kwargs)
        return output

    def batch_paths(self) -> list[str]:
        """Return the paths of the current batch."""
        return [] if self.batch is None else self.batch[0]

    def class_filter(self) -> AbstractContextManager[None]:
        """Make the model predict only the classes asked for, until the block ends."""
        return nullcontext()

    # -------------------------------------------------------------------------------------------------------- run
    def __call__(
        self, source: object = None, model: WeightsSource | None = None, stream: bool = False, **kwargs: Any
    ) -> list[Results] | Iterator[Results]:
        """Predict; return a `ResultList`, or with `stream` a generator that holds one batch at a time."""
        with self.lock:
            if kwargs:
                self.update_args(kwargs)
            self.stream = stream
            results = self.stream_inference(source, model)
        return results if stream else ResultList(results)

    def predict_cli(self, source: object = None, model: WeightsSource | None = None) -> None:
        """Predict for the files and the log alone: no results are kept."""
        for _ in self.stream_inference(source, model):
            pass

    def setup_model(self, model: WeightsSource | None = None, verbose: bool = False) -> None:
        """Load the weights (a path) or wrap the module; done once, a later call changes nothing.

        `verbose` logs the device.
        """
        if self.model is not None:
            return
        weights = self.args.model if model is None else model
        if weights is None:
            raise ConfigError("no model to predict with", "pass model=weights.pt")
        self.device = select_device(self.args.device, verbose=verbose)
        if isinstance(weights, nn.Module) and not isinstance(weights, AutoBackend):
            self._version = ModelVersion(weights)
        self.model = self._backend(weights)

    def _network_size(self, stride: int | None) -> tuple[int, int]:
        """Return height and width of the network input that the arguments ask for, in px."""
        own = int(max(torch.as_tensor(self.model.stride).flatten().tolist()))
        size = check_imgsz(self.args.imgsz, stride=stride or own, min_dim=2)
        height, width = size if isinstance(size, list) else (size, size)
        return size_taken(self.model, (int(height), int(width)))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network input in px; before a source is opened, what the arguments ask for."""
        height, width = self.imgsz
        return (height, width) if height and width else self._network_size(None)

    def holds(self, network: Any) -> bool:
        """Whether `model` is a copy of this network as it is now; an exported file does not change."""
        if self._version is None:
            return True
        return self.model.names == network.names and self._version.unchanged(network)

    def _backend(self, weights: WeightsSource) -> AutoBackend:
        """Return what runs the network; a backend that was given is used as it is."""
        return load_backend(weights, self.device, self.args)

    def setup_source(self, source: object, stride: int | None = None) -> Any:
        """Open the source and set the network's input size; returns the opened source, which is `dataset` too.

        Sides are multiples of `stride`, by default the network's.
        """
        source = self.args.source if source is None else source
        if source is None:
            LOGGER.warning(f"source= is missing; using the two drawn pictures in {ASSETS}")
            source = ASSETS
        self.imgsz = self._network_size(stride)
        dataset = load_inference_source(
            source,
            batch=self.images_per_batch,
            vid_stride=self.args.vid_stride,
            buffer=self.args.stream_buffer,
            channels=self.channels,
        )
        if isinstance(source, Tensor):  # taken as it is
            self.imgsz = (int(source.shape[-2]), int(source.shape[-1]))
        self.dataset, self.source_type = dataset, dataset.source_type
        return dataset

    @property
    def images_per_batch(self) -> int:
        """Images that are read, and run, at a time."""
        return int(self.args.batch)

    @property
    def channels(self) -> int:
        """Image channels that the network takes: 3 colour or 1 grey."""
        return int(getattr(self.model, "channels", 3))

    def stream_inference(
        self,
        source: object = None,
        model: WeightsSource | None = None,
        *args: object,
        **kwargs: object,
    ) -> Iterator[Results]:
        """Yield the `Results` of each image in turn; model and source are opened before the first is asked for.

        The generator may be dropped at any point: open videos are finished then. `tracks` among
        the arguments give the boxes their ids, the others go to `inference`.
        """
        tracks = kwargs.pop("tracks", None)
        with self.lock:  # while a batch is in work, the arguments here are those of its pass
            self.setup_model(model)
            dataset, settings, folder = self.setup_source(source), self.args, self._folder
            writer = ResultWriter(settings, lambda: folder.path(settings), folder.used)
            timers = tuple(Profile(device=self.device) for _ in STAGES)
            run = PredictRun(
                settings, self._imgsz, dataset, writer, timers, tracks if isinstance(tracks, Tracks) else None
            )
            return self._stream(run, args, kwargs)

    def _stream(self, run: PredictRun, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[Results]:
        self.dataset, self.source_type, self.seen = run.dataset, run.dataset.source_type, 0
        self.run_callbacks("on_predict_start")
        try:
            with closing(read_ahead(run.dataset)) as batches:
                for item in batches:
                    with self._working_on(run):
                        results = self._run_batch(item, run, args, kwargs)
                    yield from results
            run.close_bar()
            run.log_end()
        finally:
            run.close_bar()
            run.writer.close()
            run.dataset.close()
        self.run_callbacks("on_predict_end")

    def _run_batch(
        self, item: BatchItem, run: PredictRun, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> list[Results]:
        """Take one batch through all stages; return its results (with `embed`, its vectors)."""
        _, images, _ = self.batch = item
        self.run_callbacks("on_predict_batch_start")
        before = [t.t for t in run.timers]
        with torch.no_grad():
            with run.timers[0]:
                im = self.preprocess(images)
            if run.args.embed:
                vectors: list[Any] = list(self.model(im, embed=run.args.embed))  # (D,) each
                run.seen += len(vectors)
                return vectors
            with run.timers[1], self.class_filter():
                preds = self.inference(im, *args, **kwargs)
            with run.timers[2]:
                self.results = self.postprocess(preds, im, to_bgr_images(images))
            self.results = run.tracked(self.results, self.batch_paths())
        self.done_warmup = True
        spent = [(t.t - t0) * 1e3 / max(len(self.results), 1) for t, t0 in zip(run.timers, before, strict=True)]
        self.speed = dict(zip(STAGES, spent, strict=True))
        self.run_callbacks("on_predict_postprocess_end")
        for result in self.results:
            result.speed = dict(self.speed)
        self.seen += len(self.results)
        run.seen += len(self.results)
        found = self.results
        self.run_callbacks("on_predict_batch_end")
        given = self.results = list(self.results)
        if not all(isinstance(result, Results) for result in given):  # pairs of a script: they are returned as they are
            self.results = found
        self._emit(im)
        self.results = given
        return given

    def _emit(self, im: Tensor) -> None:
        """Write and log the results of the current batch."""
        _, _, infos = self.batch or ([], [], [])
        paths = self.batch_paths()
        for i in range(len(self.results)):
            path = paths[i] if i < len(paths) else str(self.results[i].path)
            line = self.write_results(i, Path(path), im, [infos[i] if i < len(infos) else ""])
            if line:
                LOGGER.info(line)

    def write_results(self, i: int, p: Path, im: Tensor, s: list[str]) -> str:
        """Write the files that were asked for of result `i`, an image of path `p`; return its log line.

        `im` is the network input (B, C, H, W); `s` holds the start of the line.
        """
        if self._run is None or self.batch is None:
            return ""
        result = self.results[i]
        path = self.batch[0][i] if i < len(self.batch[0]) else str(p)
        line = self._run.line(result, path, "".join(s))
        self._run.write(result, path, self._save_picture)
        self.plotted_img, self.txt_path = self._run.writer.drawn, self._run.writer.label_file
        return line

    def _save_picture(self, path: Path, frame: int) -> None:
        """Let `save_predicted_images` write the picture that was drawn."""
        self.plotted_img = None if self._run is None else self._run.writer.drawn
        self.save_predicted_images(path, frame)

    def save_predicted_images(self, save_path: str | Path = "", frame: int = 0) -> None:
        """Write `plotted_img` as a picture, or as a frame (from 1) of a video; `save_path` has no suffix yet."""
        if self._run is not None:
            self._run.writer.save_drawn(Path(save_path), frame, self.plotted_img)

    @contextmanager
    def _working_on(self, run: PredictRun) -> Iterator[None]:
        """Hold the model for a batch of a pass, whose arguments are the predictor's until the block ends."""
        with self.lock:
            before, self._run = self._run, run
            try:
                yield
            finally:
                self._run = before

    def preprocess(self, im: Images) -> Tensor:
        """Return the network input (B, C, H, W), RGB, 0..1; a tensor that was given is taken as it is."""
        if isinstance(im, Tensor):
            im = im.to(self.device).float()
        else:
            rgb = np.stack([_swap_channels(image) for image in self.pre_transform(im)])  # (B, H, W, C)
            pixels = torch.from_numpy(rgb).to(self.device).permute(0, 3, 1, 2)  # (B, C, H, W)
            if not (getattr(self.model, "pt", False) and wants_channels_last(self.args.channels_last, self.device)):
                pixels = pixels.contiguous()
            im = pixels.float().div_(255)
        return im.half() if self.model.fp16 else im

    def pre_transform(self, im: list[Image]) -> list[Image]:
        """Resize images to the network input: stretched, or padded where `letterbox` or the family wants it."""
        resize = LetterBox(self.input_size, scale_fill=not letterboxes(self.model, self.args.letterbox))
        if self.channels == 1:
            im = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None] for image in im]
        return [resize(image=image) for image in im]


def _swap_channels(image: Image) -> Image:
    """Return an image (h, w, C) with its channels in reverse order: RGB for BGR."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) if image.shape[2] == 3 else image[..., ::-1]


def size_taken(model: Any, imgsz: tuple[int, int]) -> tuple[int, int]:
    """Return the input size, height and width in px: of an exported graph of one size this, with a warning."""
    metadata = getattr(model, "metadata", None)
    if metadata is None or metadata.dynamic or metadata.imgsz == imgsz:
        return imgsz
    kept: tuple[int, int] = metadata.imgsz
    LOGGER.warning(f"imgsz={list(imgsz)}: the exported file takes {list(kept)} only, which is used")
    return kept


def to_bgr_images(images: Images) -> list[Image]:
    """Return the source images as (h, w, 3) BGR uint8; tensors (B, 3, h, w) are RGB in 0..1."""
    if not isinstance(images, Tensor):
        return images
    array = (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, h, w, 3)
    return [np.ascontiguousarray(x[..., ::-1]) for x in array]
