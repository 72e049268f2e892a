"""The model card of a run: what the model is, how good it was on which data, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ultralytics import __version__
from ultralytics.nn.checkpoint.describe import shown_arguments
from ultralytics.utils.errors import printable
from ultralytics.utils.tables import markdown

LICENSE = "AGPL-3.0-or-later"
LICENSE_PAGE = "https://www.gnu.org/licenses/agpl-3.0.html"
MAX_CLASSES_SHOWN = 100


@dataclass(frozen=True)
class CardFacts:
    """What a card says of a model.

    Attributes:
        name: Title.
        architecture: Class of the network and its YAML.
        task: detect or classify.
        parameters: Number of weights.
        names: Class names by id.
        arguments: Arguments of the training run; empty for a model that was not trained.
        metrics: Numbers of its best epoch.
        modules: Names of Python files of the user's that the model needs.
        exported: Forms beside the weights, each with its file.
        license: SPDX name of the licence of the weights.
    """

    name: str
    architecture: str
    task: str
    parameters: int
    names: Mapping[int, str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    modules: Sequence[str] = ()
    exported: Mapping[str, str] = field(default_factory=dict)
    license: str = LICENSE


def model_card(card: CardFacts) -> str:
    """The card in Markdown."""
    names = [printable(name) for name in card.names.values()]
    more = f", ... ({len(names)})" if len(names) > MAX_CLASSES_SHOWN else ""
    rows = [
        ("", ""),
        ("network", card.architecture),
        ("task", card.task),
        ("parameters", f"{card.parameters:,}"),
        (f"classes ({len(names)})", ", ".join(names[:MAX_CLASSES_SHOWN]) + more),
        ("licence", card.license),
        ("written", f"{date.today().isoformat()} by rtdetr-shsa {__version__}"),
    ]
    lines = [f"# {printable(card.name)}", "", *markdown(rows, left=(0, 1)), *_usage(card), *_training(card)]
    return "\n".join(lines) + "\n"


def _usage(card: CardFacts) -> list[str]:
    """How the pack is opened; what of it the user must allow."""
    pack = f"{card.name}.zip"
    allowed = f" modules={pack}" if card.modules else ""
    lines = ["", "## Use", "", f"    yolo {card.task} predict model={pack}{allowed} source=images"]
    if card.modules:
        lines += [
            "",
            f"The model needs Python files of this pack: {', '.join(card.modules)}.",
            f"They are run only when you name the pack (`modules={pack}`) or a file of yours; read them first.",
        ]
    if card.exported:
        lines += ["", "Other forms of the same weights, to be unpacked with any zip tool:", ""]
        lines += markdown([("form", "file"), *card.exported.items()], left=(0, 1))
    return lines


def _training(card: CardFacts) -> list[str]:
    """The arguments and the numbers of the run, where there was one."""
    lines: list[str] = []
    shown = shown_arguments(card.arguments)
    if shown:
        lines += ["", "## Training", "", printable(" ".join(f"{k}={v}" for k, v in shown.items()))]
    numbers = [(key, f"{value:.4g}") for key, value in card.metrics.items()]
    if numbers:
        lines += ["", f"On the validation images of `{card.arguments.get('data')}`:", ""]
        lines += markdown([("metric", "value"), *numbers])
    return lines
