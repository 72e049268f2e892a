"""How large a batch may be: measured on a GPU by trial steps, and reported when memory runs out.

Memory of a step is taken as a line over the batch: a fixed part, and a part for each image, which grows with its area.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ultralytics.cfg import Args
from ultralytics.engine.training.protocols import HasModel
from ultralytics.nn.profile.activation_memory import estimate_training
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import TrainingError
from ultralytics.utils.torch_utils import autocast, unwrap_model

FALLBACK = 16
"""Batch on a device whose memory is not measured."""

MEMORY_FRACTION = 0.85
"""Fraction of the GPU's memory that `batch=-1` fills."""

MOST = 512
OBJECTS = 16
"""Objects in an image of a trial step."""

NO_MEMORY = ("can't allocate memory", "STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What errors say that are not torch.OutOfMemoryError: of the host, of cuBLAS and cuDNN, of the driver."""

STATES = 3
"""Copies of the weights that a run keeps beside those of a trial step: two moments and the average."""


class Line(NamedTuple):
    """Bytes of a step: `fixed` + batch * `image`; more than `most` images ran out of memory, whatever its limit."""

    fixed: float
    image: float
    most: int | None = None

    def batch(self, limit: float) -> int:
        """Largest batch within `limit` bytes."""
        batch = int((limit - self.fixed) // max(self.image, 1.0))
        return batch if self.most is None else min(batch, self.most)

    def side(self, limit: float, batch: int, side: int, stride: int) -> int:
        """Largest image side, a multiple of the stride, at which a batch fits; 0 when there is none."""
        ratio = (limit - self.fixed) / max(self.image * batch, 1.0)
        return int(side * math.sqrt(min(max(ratio, 0.0), 1.0))) // stride * stride


def measure_line(step: Callable[[int], float], limit: float, first: int = 1) -> Line | None:
    """Run trial steps, twice as many images each time, until one passes `limit` bytes; None when not one image fits.

    `step` returns the peak of a batch in bytes, or raises what `is_out_of_memory` knows. `first` is where to start:
    where it does not fit, half as many images are tried each time until one does.
    """
    seen: dict[int, float] = {}
    failed: list[int] = []
    batch = start = min(max(first, 1), MOST)
    rises = True
    while 1 <= batch <= MOST:
        try:
            seen[batch] = step(batch)
        except RuntimeError as e:
            if not is_out_of_memory(e):
                raise
            fits = False
            failed.append(batch)
        else:
            fits = seen[batch] <= limit
        rises = fits if batch == start else rises
        if fits != rises:
            break
        batch = batch * 2 if rises else batch // 2
    if not seen:
        return None
    if len(seen) == 1 and (only := min(seen)) > 1:  # a line has two points
        seen[only // 2] = step(only // 2)
    (a, low), (b, high) = sorted(seen.items())[-2:] if len(seen) > 1 else [(0, 0.0), *seen.items()]
    image = (high - low) / (b - a)
    return Line(low - a * image, image, min(failed) - 1 if failed else None)


def provisional_batch(args: Args, device: torch.device) -> tuple[Args, float]:
    """Put a number in the place of an automatic batch; also return the fraction of GPU memory to fill, 0 for none."""
    wanted = float(args.batch)
    if wanted >= 1:
        return args, 0.0
    args = args.replace(batch=FALLBACK * dist.world_size())
    if device.type != "cuda":
        LOGGER.info(f"batch={wanted:g} measures a GPU's memory; on {device} it is batch={args.batch}")
    return args, MEMORY_FRACTION if wanted < 0 else wanted


def trial_step(run: HasModel, objects: int = OBJECTS) -> Callable[[int], float]:
    """Return what measures the peak memory of a step of this run on its GPU, on a copy of the network."""
    network: Any = copy.deepcopy(unwrap_model(run.model)).train()
    device, size = run.device, run.imgsz
    states = STATES * sum(p.numel() * p.element_size() for p in network.parameters())

    def step(batch: int) -> float:
        moved = {k: v.to(device) for k, v in _drawn_targets(network.task, batch, objects).items()}
        network.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        images = torch.rand(batch, run.data["channels"], size, size, device=device)
        with autocast(run.amp_dtype is not None, device, run.amp_dtype):
            loss, _ = network({**moved, "img": images})
        loss.backward()
        return float(torch.cuda.max_memory_allocated(device) + states)

    return step


def _drawn_targets(task: str, batch: int, objects: int) -> dict[str, torch.Tensor]:
    """Targets of a trial step: a class of each image, or `objects` boxes in each."""
    if task == "classify":
        return {"cls": torch.zeros(batch, dtype=torch.long)}
    owner = torch.arange(batch).repeat_interleave(objects)
    boxes = torch.rand(len(owner), 4) * 0.5 + 0.25  # cx, cy, w, h in 0..1
    return {"cls": torch.zeros(len(owner), 1), "bboxes": boxes, "batch_idx": owner}


def expected_batch(run: HasModel, limit: float) -> int:
    """Return the batch whose step is expected within `limit` bytes, from a run without values; 1 where none works."""
    network: Any = unwrap_model(run.model)
    memory = estimate_training(network, run.imgsz, run.data["channels"], run.amp_dtype)
    return 1 if memory is None else memory.batch(limit)


def _limit(device: torch.device, fraction: float) -> float:
    """Return the bytes that this process may hold: a fraction of the GPU's memory, or what others leave of it."""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return min(fraction * total, free + torch.cuda.memory_reserved(device))


def automatic_batch(run: HasModel, fraction: float, objects: int = OBJECTS) -> int:
    """Return the largest batch that fills at most this fraction of the GPU's memory."""
    limit = _limit(run.device, fraction)
    line = measure_line(trial_step(run, objects), limit, expected_batch(run, limit) // 2)
    batch = 0 if line is None else min(line.batch(limit), MOST)
    if batch < 1:
        raise TrainingError(
            f"not even one image of {run.imgsz} px fits into the memory of {run.device}",
            "lower imgsz, or take a smaller model scale",
        )
    return batch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory, of a GPU or of the machine, has run out; the libraries of a GPU have messages of their own."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in NO_MEMORY)


def out_of_memory(run: HasModel, line: Line | None, limit: float) -> TrainingError:
    """The error that says what did not fit, and what would; `line` is None where nothing was measured."""
    batch, size = int(run.args.batch), run.imgsz
    what = f"out of memory on {run.device} at batch={batch}, imgsz={size}"
    per_process = run.batch_size
    if line is None:
        better = max(batch // 2, 1)
        return TrainingError(what, f"try batch={better}" if better < batch else "lower imgsz", "nbs keeps the step")
    fits = min(line.batch(limit), per_process - 1) * max(batch // max(per_process, 1), 1)
    side = line.side(limit, per_process, size, 32)
    options = [f"batch={fits}"] * (fits >= 1) + [f"imgsz={side}"] * (side >= 32)
    text = f"{' or '.join(options)} would fit" if options else "take a smaller model scale"
    return TrainingError(what, text, "with a smaller batch, nbs keeps the optimizer's step as it was")


def explain_out_of_memory(run: HasModel) -> TrainingError:
    """Measure what would fit, on a GPU, after memory has run out."""
    if run.device.type != "cuda":
        return out_of_memory(run, None, 0.0)
    run.optimizer.zero_grad(set_to_none=True)
    limit = _limit(run.device, MEMORY_FRACTION)
    return out_of_memory(run, measure_line(trial_step(run), limit), limit)
