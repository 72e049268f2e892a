"""Prediction on any source: read, preprocess, infer, post-process, draw, write, one batch at a time.

Memory is flat with `stream=True`: nothing of an earlier batch is kept. Legend: B images in a batch, H, W network input.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.data.augment import LetterBox
from ultralytics.data.build import load_inference_source
from ultralytics.engine.media import ResultWriter
from ultralytics.engine.results import Results
from ultralytics.engine.validator import SHOWN_CONF, as_classes, load_backend, refuse_unsupported
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import ASSETS, LOGGER, IterableSimpleNamespace
from ultralytics.utils.callbacks import Callback, CallbackMixin, Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import Profile
from ultralytics.utils.torch_utils import select_device

Image = npt.NDArray[np.uint8]
PLACE_KEYS = ("project", "name", "save_dir", "exist_ok")
STAGES = ("preprocess", "inference", "postprocess")


class BasePredictor(CallbackMixin):
    """Run a detector over a source; a model family fills `postprocess`.

    A predictor can be used again and again; files of all its runs go to one folder, made when the first is written.
    Several threads may share one: the model runs one batch at a time.
    """

    # Config
    args: IterableSimpleNamespace
    # Swappable parts
    model: Any
    writer: ResultWriter
    # Run time: what the last batch left
    device: torch.device
    imgsz: tuple[int, int]
    dataset: Any
    source_type: Any
    batch: tuple[list[str], Any, list[str]] | None
    results: list[Results]
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
        self.dataset = self.source_type = self.batch = None
        self.results = []
        self.speed = dict.fromkeys(STAGES, 0.0)
        self.seen = 0
        self.writer = ResultWriter(self.args, self._new_save_dir)
        self._save_dir: Path | None = None
        self._lock = threading.Lock()

    @property
    def save_dir(self) -> Path:
        """The run folder; chosen on first use, made when the first file is written."""
        return self._save_dir or self._new_save_dir()

    def _new_save_dir(self) -> Path:
        if self._save_dir is None:
            self._save_dir = Path(get_save_dir(self.args))
        return self._save_dir

    @property
    def conf(self) -> float:
        """Score above which a box is kept: `conf`, 0.25 when it is not given."""
        return SHOWN_CONF if self.args.conf is None else float(self.args.conf)

    @property
    def classes(self) -> list[int] | None:
        """Class ids to keep, None for all."""
        return as_classes(self.args.classes)

    def update_args(self, overrides: Mapping[str, Any], reset: bool = False) -> None:
        """Change arguments between runs, with `reset` starting from the defaults again.

        A new place for the run (`project`, `name`, `save_dir`) starts a new run folder.
        """
        before = [self.args.get(k) for k in PLACE_KEYS]
        self.args = get_cfg(None if reset else self.args, dict(overrides))
        refuse_unsupported(self.args)
        if [self.args.get(k) for k in PLACE_KEYS] != before:
            self._save_dir = None
            self.writer = ResultWriter(self.args, self._new_save_dir)
        self.writer.args = self.args

    # ------------------------------------------------------------------------------------------------------ hooks
    def postprocess(self, preds: Any, im: torch.Tensor, originals: list[Image], paths: list[str]) -> list[Results]:
        """Turn raw output for `im` (B, C, H, W) into one `Results` per original image."""
        raise NotImplementedError

    def class_filter(self) -> AbstractContextManager[None]:
        """Make the model predict only the classes asked for, until the block ends."""
        return nullcontext()

    # -------------------------------------------------------------------------------------------------------- run
    def __call__(
        self, source: Any = None, model: Any = None, stream: bool = False, **kwargs: Any
    ) -> list[Results] | Iterator[Results]:
        """Predict; return a list of `Results`, or with `stream` a generator that holds one batch at a time."""
        if kwargs:
            self.update_args(kwargs)
        results = self.stream_inference(source, model)
        return results if stream else list(results)

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
        return weights if isinstance(weights, AutoBackend) else load_backend(weights, self.device, self.args)

    def setup_source(self, source: Any) -> Any:
        """Open the source and settle the network's input size."""
        source = self.args.source if source is None else source
        if source is None:
            source = ASSETS
            LOGGER.warning(f"no source given: predicting on the images in {ASSETS}")
        stride = int(max(torch.as_tensor(self.model.stride).flatten().tolist()))
        size = check_imgsz(self.args.imgsz, stride=stride, min_dim=2)
        self.imgsz = (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) else (int(size), int(size))
        return load_inference_source(
            source, batch=int(self.args.batch), vid_stride=self.args.vid_stride, buffer=self.args.stream_buffer
        )

    def stream_inference(self, source: Any = None, model: Any = None) -> Iterator[Results]:
        """Yield the `Results` of each image in turn; model and source are opened before the first is asked for.

        The generator may be dropped at any point: open videos are finished then.
        """
        self.setup_model(model)
        dataset = self.setup_source(source)
        return self._stream(dataset)

    def _stream(self, dataset: Any) -> Iterator[Results]:
        self.dataset, self.source_type, self.seen = dataset, getattr(dataset, "source_type", None), 0
        timers = tuple(Profile(device=self.device) for _ in STAGES)
        self.run_callbacks("on_predict_start")
        try:
            for item in dataset:
                yield from self._run_batch(item, timers)
            self._log_end(timers)
        finally:
            self.writer.close()
        self.run_callbacks("on_predict_end")

    def _run_batch(self, item: tuple[list[str], Any, list[str]], timers: Sequence[Profile]) -> list[Results]:
        """Take one batch through all stages; return its results."""
        paths, images, infos = self.batch = item
        self.run_callbacks("on_predict_batch_start")
        before = [t.t for t in timers]
        with self._lock, torch.no_grad():
            with timers[0]:
                im = self.preprocess(images)
            with timers[1], self.class_filter():
                preds = self.model(im)
            with timers[2]:
                results = self.postprocess(preds, im, to_bgr_images(images), paths)
        n = len(results)
        self.speed = {
            name: (t.t - t0) * 1e3 / n for name, t, t0 in zip(STAGES, timers, before, strict=True)
        }
        self.results = results
        self.run_callbacks("on_predict_postprocess_end")
        for result, path, info in zip(results, paths, infos, strict=True):
            result.speed = dict(self.speed)
            self._emit(result, path, info, tuple(im.shape[2:]))
        self.seen += n
        self.run_callbacks("on_predict_batch_end")
        return results

    def preprocess(self, images: list[Image] | torch.Tensor) -> torch.Tensor:
        """Return the network input (B, C, H, W), RGB, 0..1; a tensor that was given is taken as it is."""
        if isinstance(images, torch.Tensor):
            im = images.to(self.device).float()
        else:
            stack = np.stack([self.pre_transform(x) for x in images])  # (B, H, W, C)
            rgb = stack[..., ::-1] if stack.shape[-1] == 3 else stack
            chw = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))  # (B, C, H, W)
            im = torch.from_numpy(chw).to(self.device).float() / 255
        return im.half() if self.model.fp16 else im

    def pre_transform(self, image: Image) -> Image:
        """Resize one image to the network input: stretched, or with `letterbox` padded to keep its aspect."""
        resized: Image = LetterBox(self.imgsz, scale_fill=not self.args.letterbox)(image=image)
        return resized if resized.ndim == 3 else resized[..., None]

    def _emit(self, result: Results, path: str, info: str, shape: tuple[int, ...]) -> None:
        """Log one result and write what was asked for."""
        if self.args.verbose:
            LOGGER.info(f"{info}{shape[0]}x{shape[1]} {result.verbose()}{sum(self.speed.values()):.1f}ms")
        if self.writer.active:
            result.save_dir = str(self.save_dir)
        video = getattr(self.dataset, "mode", "image") in {"video", "stream"}
        frame = int(getattr(self.dataset, "frame", self.seen + 1)) if video else None
        self.writer.write(result, path, frame=frame, fps=fps_of(self.dataset))

    def _log_end(self, timers: Sequence[Profile]) -> None:
        """Log mean time per image of each stage and where files went."""
        if not self.seen:
            LOGGER.warning("the source held no readable image")
        elif self.args.verbose:
            parts = ", ".join(f"{t.t / self.seen * 1e3:.1f}ms {n}" for n, t in zip(STAGES, timers, strict=True))
            LOGGER.info(f"Speed: {parts} per image at {self.imgsz[0]}x{self.imgsz[1]}")
        self.writer.log()


def to_bgr_images(images: list[Image] | torch.Tensor) -> list[Image]:
    """Return the source images as (h, w, 3) BGR uint8; tensors (B, 3, h, w) are RGB in 0..1."""
    if not isinstance(images, torch.Tensor):
        return images
    array = (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, h, w, 3)
    return [np.ascontiguousarray(x[..., ::-1]) for x in array]


def fps_of(dataset: Any) -> float:
    """Return the frame rate of a video source, 30 where it is unknown."""
    fps = getattr(dataset, "fps", 0)
    fps = fps[0] if isinstance(fps, (list, tuple)) and fps else fps
    return float(fps) if isinstance(fps, (int, float)) and fps > 0 else 30.0
