"""Which of the measured forms is best on this machine, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MAX_LOSS = 0.01
"""AP (or accuracy) that a recommended form may have less than the model."""

SAME_SPEED = 1.03
"""Forms whose median times differ by less are equally fast; of them the one with the higher metric is taken."""


class Measured(Protocol):
    """What a recommendation needs of a form: its name, size, metric, and figures of `timing.measure`."""

    name: str
    megabytes: float | None
    metric: float | None
    single: dict[str, float]


def recommend(forms: Sequence[Measured], metric: str, reference: float | None) -> tuple[str | None, list[str]]:
    """Return the name of the best form and lines that say why; None where nothing was measured.

    The best one is the fastest at batch 1 among those whose `metric` is at most `MAX_LOSS` below `reference`, that of
    the PyTorch model. Without a reference, forms in lower precision (`onnx-int8`) are not recommended.
    """
    timed = [form for form in forms if form.single]
    allowed = [form for form in timed if _keeps(form, reference)]
    if not allowed:
        return None, []
    fastest = min(form.single["p50"] for form in allowed)
    equal = [form for form in allowed if form.single["p50"] <= fastest * SAME_SPEED]
    best = max(equal, key=lambda form: (form.metric if form.metric is not None else 0.0, -form.single["p50"]))
    lines = [f"best here: {best.name}, {_text(best, metric)}"]
    lines += [f"  {form.name}: {_compared(form, best)}" for form in allowed if form is not best]
    for form in timed:
        if form not in allowed:
            why = "its loss was not measured: pass data=" if reference is None else _loss(form, metric, reference)
            lines.append(f"  {form.name}: not recommended, {why}")
    return best.name, lines


def _keeps(form: Measured, reference: float | None) -> bool:
    if reference is None or form.metric is None:
        return "-" not in form.name
    return reference - form.metric <= MAX_LOSS


def _text(form: Measured, metric: str) -> str:
    measured = "" if form.metric is None else f", {metric} {form.metric:.4f}"
    size = "" if form.megabytes is None else f", {form.megabytes:.1f} MB"
    return f"{form.single['p50']:.1f} ms an image{measured}{size}, {form.single.get('peak_mb', 0.0):.0f} MB of memory"


def _compared(form: Measured, best: Measured) -> str:
    ratio = form.single["p50"] / best.single["p50"]
    if ratio <= SAME_SPEED:
        return f"{form.single['p50']:.1f} ms, as fast"
    return f"{form.single['p50']:.1f} ms, {ratio:.2f} times as long"


def _loss(form: Measured, metric: str, reference: float) -> str:
    value = 0.0 if form.metric is None else form.metric
    return f"{metric} {value:.4f} is more than {MAX_LOSS:g} below the model's {reference:.4f}"
