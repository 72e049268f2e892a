"""The same model in every form that this machine can run: size, accuracy, latency, throughput, memory."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ultralytics.engine.export.exporter import EXPORT_FORMATS, format_name, work_folder
from ultralytics.engine.export.parity import ParityReport
from ultralytics.engine.export.recommendation import recommend
from ultralytics.engine.export.timing import Job, run_in_subprocess
from ultralytics.utils.checks import collect_system_info
from ultralytics.utils.config.precision import PRECISIONS
from ultralytics.utils.errors import ConfigError, UserError
from ultralytics.utils.files import atomic_write, file_size
from ultralytics.utils.log import LOGGER, log_level
from ultralytics.utils.plotting.figure import literal, new_figure, save_figure
from ultralytics.utils.tables import aligned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PYTORCH = "pytorch"
LARGE_BATCH = 8
LOWER_PRECISIONS: Mapping[str, int] = {p.name: p.bits for p in PRECISIONS if p.bits is not None and p.bits < 32}
CPU_FORMS = ("onnx-int8", "openvino-fp16", "openvino-int8")
"""Forms in lower precision that are measured where there is a data set."""
SECONDS = 5.0
Exporter = Callable[[str, int, Path], tuple[Path, ParityReport | None]]
"""Writes a format (name, images of a call, folder) and returns the file and its comparison with the model."""


@dataclass
class Figures:
    """The figures of one form; None where they were not measured."""

    name: str
    megabytes: float | None = None
    metric: float | None = None
    difference: float | None = None  # largest difference of a box to the PyTorch model, px
    single: dict[str, float] = field(default_factory=dict)  # figures of `timing.measure` at batch 1
    large: dict[str, float] = field(default_factory=dict)  # at batch 8
    note: str = ""

    def cells(self, metric: str) -> dict[str, str]:
        """Return the cells of a table by column."""
        s, large = self.single, self.large
        return {
            "form": self.name,
            "MB": _text(self.megabytes, ".1f"),
            **({metric: _text(self.metric, ".4f")} if metric else {}),
            "box px": _text(self.difference, ".1e"),
            "p50 ms": _text(s.get("p50"), ".1f"),
            "p90": _text(s.get("p90"), ".1f"),
            "p99": _text(s.get("p99"), ".1f"),
            "img/s b1": _text(s.get("images_per_second"), ".2f"),
            f"b{LARGE_BATCH}": _text(large.get("images_per_second"), ".2f"),
            "peak MB": _text(s.get("peak_mb"), ".0f"),
            f"at b{LARGE_BATCH}": _text(large.get("peak_mb"), ".0f"),
        }


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def form_arguments(name: str) -> dict[str, str | int]:
    """Return the arguments of `export` that a form stands for: `onnx-int8` is ONNX with `quantize=8`.

    Raises ConfigError for an unknown format or precision.
    """
    format, dash, precision = name.partition("-")
    if dash and precision not in LOWER_PRECISIONS:
        raise ConfigError(f"format={name}: no such precision", f"there are: {', '.join(LOWER_PRECISIONS)}")
    return {"format": format_name(format), **({"quantize": LOWER_PRECISIONS[precision]} if dash else {})}


def form_name(text: str) -> str:
    """Return the name of a form, whose format may be an alias."""
    if text == PYTORCH:
        return text
    return f"{form_arguments(text)['format']}{''.join(text.partition('-')[1:])}"


def runnable_formats(asked: str = "", with_data: bool = False) -> list[str]:
    """Return the forms to measure: those asked for (comma-separated), else all whose packages are installed here.

    With a data set those in lower precision that can be faster on a CPU are among them: their loss can be measured.
    Raises ConfigError for an unknown one.
    """
    if asked:
        return [form_name(name) for name in asked.replace(" ", "").split(",")]
    here = [
        name for name, form in EXPORT_FORMATS.items()
        if all(find_spec(p) for p in form.packages) and (form.runs_anywhere or torch.cuda.is_available())
    ]  # fmt: skip
    lower = [form for form in CPU_FORMS if with_data and form.partition("-")[0] in here]
    return [PYTORCH, *here, *lower]


class Benchmark:
    """Measure a model file in several forms.

    Args:
        weights: The weights file.
        export: Writes a form.
        size: Height and width of the input, px.
        channels: Image channels.
        save_dir: Folder of the results.
        device: Where to run.
        modules: Files with blocks of the user's.
        seconds: How long to time each form at each batch.
    """

    def __init__(
        self,
        weights: Path,
        export: Exporter,
        size: Sequence[int],
        channels: int,
        save_dir: Path,
        device: str = "cpu",
        modules: Sequence[str] = (),
        seconds: float = SECONDS,
    ) -> None:
        self.weights, self.export, self.size, self.channels = weights, export, list(size), channels
        self.save_dir, self.device, self.modules, self.seconds = save_dir, device, list(modules), seconds
        self.metric = ""
        self.reference: float | None = None

    def __call__(self, formats: Sequence[str]) -> list[Figures]:
        """Measure each form, log the table, write benchmark.csv, .json and .png into the folder; return the figures."""
        results = [self._figures(name) for name in formats if name != PYTORCH]
        if PYTORCH in formats:
            results.insert(0, self._figures(PYTORCH))
            results[0].metric = self.reference
        best, why = recommend(results, self.metric, self.reference)
        lines = [*self.machine(), *aligned([list(results[0].cells(self.metric)), *map(self._row, results)])]
        for line in lines:
            LOGGER.info(line)
        for figures in results:
            if figures.note:
                LOGGER.warning(f"{figures.name}: {figures.note}")
        for line in why:
            LOGGER.info(line)
        self._write(results, {"recommended": best, "why": why})
        return results

    def _row(self, figures: Figures) -> list[str]:
        return list(figures.cells(self.metric).values())

    def machine(self) -> list[str]:
        """Return lines that say what was measured where."""
        info = collect_system_info()
        h, w = self.size
        threads = torch.get_num_threads()
        return [
            f"{self.weights.name} at {h}x{w}, fp32 unless said, {threads} threads, on {self.device}",
            f"{info['CPU']}, {info['RAM']}, {info['devices']}, torch {info['torch']}",
        ]

    def _figures(self, name: str) -> Figures:
        """Measure one form; an error becomes a note, the others continue."""
        figures = Figures(name)
        try:
            with work_folder(self.save_dir / name) as folder:
                path = self._file_for(figures, name, 1, folder)
                figures.megabytes = file_size(path)
                figures.single = run_in_subprocess(self._job(path, 1))
                if not name.endswith("-int8"):  # its ranges are not taken twice: the images run one by one
                    path = self._file_for(figures, name, LARGE_BATCH, folder)
                figures.large = run_in_subprocess(self._job(path, LARGE_BATCH))
        except UserError as e:
            figures.note = str(e).splitlines()[0]
        return figures

    def _file_for(self, figures: Figures, name: str, batch: int, folder: Path) -> Path:
        """Return the file for a batch size, and store its comparison with the model."""
        if name == PYTORCH:
            return self.weights
        with log_level(logging.WARNING):  # the files are temporary, their names say nothing
            path, comparison = self.export(name, batch, folder)
        if comparison is not None and batch == 1:
            figures.difference = max((v for values in comparison.boxes.values() for v in values), default=None)
            last = list(comparison.metrics.items())[-1:]
            for key, (reference, value) in last:
                self.metric, self.reference, figures.metric = _short(key), reference, value
        return path

    def _job(self, path: Path, batch: int) -> Job:
        shape = [batch, self.channels, *self.size]
        return Job(str(path), shape, self.seconds, torch.get_num_threads(), self.device, self.modules)

    # ------------------------------------------------------------------------------------------------------ results
    def _write(self, results: Sequence[Figures], best: Mapping[str, object]) -> None:
        self.save_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.save_dir / "benchmark.csv", newline="") as f:
            table = csv.writer(f)
            table.writerow(results[0].cells(self.metric))
            table.writerows(map(self._row, results))
        record = {"machine": collect_system_info(), "imgsz": self.size, "threads": torch.get_num_threads()}
        forms = [{**vars(figures), "metric_name": self.metric} for figures in results]
        with atomic_write(self.save_dir / "benchmark.json") as f:
            json.dump({**record, "device": self.device, **best, "forms": forms}, f, indent=1)
        measured = [figures for figures in results if figures.single]
        if measured:
            draw(measured, self.save_dir / "benchmark.png", "\n".join(self.machine()))
        LOGGER.info(f"benchmark.csv, .json and .png are in {self.save_dir}")


def _short(key: str) -> str:
    """Return the name of a metric without its folder and suffix."""
    return key.rpartition("/")[2].partition("(")[0]


def draw(results: Sequence[Figures], file: Path, title: str) -> Path:
    """Draw bars of latency (p50, with marks at p90 and p99), throughput and size, one row a form; return the file."""
    names = [literal(figures.name) for figures in results][::-1]
    rows = list(range(len(results)))
    figure, (left, middle, right) = new_figure(11, 1.6 + 0.5 * len(results), 1, 3)
    ordered = list(results)[::-1]
    left.barh(rows, [f.single["p50"] for f in ordered], color="#4477aa")
    for mark, key in (("|", "p90"), ("x", "p99")):
        left.plot([f.single[key] for f in ordered], rows, mark, color="#222222", label=key, linestyle="none")
    left.set_xlabel("ms an image at batch 1: bar p50")
    left.legend(loc="best", fontsize=8)
    _pairs(middle, ordered, rows)
    right.barh(rows, [f.megabytes or 0.0 for f in ordered], color="#999933")
    right.set_xlabel("file, MB")
    for axes in (left, middle, right):
        axes.set_yticks(rows, names if axes is left else [""] * len(rows))
        axes.set_xlim(left=0)
    figure.suptitle(literal(title), fontsize=9)
    save_figure(figure, file, 130)
    return file


def _pairs(axes: Axes, results: Sequence[Figures], rows: Sequence[int]) -> None:
    """Draw throughput at both batches as a pair of bars."""
    pairs: Sequence[tuple[Callable[[Figures], Mapping[str, float]], float, str, str]] = (
        (lambda f: f.single, 0.2, "batch 1", "#88ccee"),
        (lambda f: f.large, -0.2, f"batch {LARGE_BATCH}", "#44aa99"),
    )
    for figures_of, shift, label, color in pairs:
        values = [figures_of(f).get("images_per_second", 0.0) for f in results]
        axes.barh([r + shift for r in rows], values, height=0.38, color=color, label=label)
    axes.set_xlabel("images a second")
    axes.legend(loc="best", fontsize=8)


def check_saved(path: str | None) -> Path:
    """Return the weights file that can be opened in another process; ConfigError for a model in memory."""
    if path is None:
        raise ConfigError("a benchmark needs a weights file", "save the model first: model.save('model.pt')")
    return Path(path)
