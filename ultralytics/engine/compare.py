"""Several detectors on one data set: their numbers side by side, and the differences with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_save_dir
from ultralytics.cfg.resolution import resolve, user_values
from ultralytics.cfg.schema import Trait, keys_with
from ultralytics.engine.model import Model
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.metrics.quality import quality_of
from ultralytics.utils.metrics.report import Table, Value, interval_columns, write_tables
from ultralytics.utils.plotting.quality import draw_quality

METRIC_COLUMNS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100")
SCOPE = "intervals over images, of one run each"
REPEAT = "other seeds move these numbers too: to compare networks, train several seeds of each and compare their means"
PAIRED = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class Comparison:
    """Metrics of each model by its label, the tables `models` and `differences`, and the folder of the files."""

    metrics: dict[str, DetMetrics]
    tables: dict[str, Table]
    save_dir: Path


def compare(models: Sequence[Model], **kwargs: Any) -> Comparison:
    """Validate every model on the same images and compare each with the first.

    `kwargs` are the arguments of `model.val`. The interval of a difference comes from a bootstrap over images in which
    both models get the same draws, so that variation common to both cancels. It holds for these weights alone: a run
    with another seed may differ as much, and one run each cannot show that. Files go to one run folder, with a folder
    for each model.

    Raises:
        ConfigError: fewer than two models, or they were not validated on the same images.
    """
    if len(models) < 2:
        raise ConfigError(f"a comparison needs at least two models, got {len(models)}")
    labels = labels_of([m.ckpt_path or m.model_name for m in models])
    _report_rules(models, labels)
    args = resolve(overrides={**kwargs, "task": models[0].task, "mode": "val"})
    shared = {k: v for k, v in user_values(args).items() if k not in {*keys_with(Trait.PLACE), "task", "mode"}}
    root = Path(get_save_dir(args))
    metrics: dict[str, DetMetrics] = {}
    for label, model in zip(labels, models, strict=True):
        LOGGER.info(colorstr("bold", label))
        folder = root / label.replace("/", "_")
        metrics[label] = model.val(**{**shared, "ci": True, "save_dir": str(folder)})
        _check_same_images(metrics[labels[0]], metrics[label], labels[0], label)
    tables = {"models": models_table(metrics), "differences": differences_table(metrics)}
    for table in tables.values():
        LOGGER.info(f"\n{table.title}\n{table.render()}")
    LOGGER.info(REPEAT)
    dataset = {"data": args.data, "images": len(metrics[labels[0]].stats)}
    write_tables(tables, root, "comparison", {k: str(v) for k, v in dataset.items()})
    if args.plots:
        draw_quality({label: [q] for label, m in metrics.items() if (q := quality_of(m)) is not None}, root)
    LOGGER.info(f"Comparison saved to {colorstr('bold', str(root))}")
    return Comparison(metrics, tables, root)


def labels_of(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of the paths, without suffix, that differ from each other; equal paths are numbered.

    >>> labels_of(["runs/a/weights/best.pt", "runs/b/weights/best.pt"])
    ['a/weights/best', 'b/weights/best']
    """
    return distinct_ends([Path(p).with_suffix("").parts for p in paths])


def distinct_ends(parts: Sequence[Sequence[str]]) -> list[str]:
    """Return the shortest ends of paths, given by their parts, that differ from each other; equal ones are numbered.

    >>> distinct_ends([("runs", "a", "x"), ("runs", "b", "x")])
    ['a/x', 'b/x']
    """
    for n in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(p[-n:]).strip("/") for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{p[-1]}-{i}" for i, p in enumerate(parts, 1)]


def _report_rules(models: Sequence[Model], labels: Sequence[str]) -> None:
    """Log which models are measured with their boxes clipped to the image, where some are and some are not."""
    rules = [getattr(m.task_map[m.task].get("validator"), "clips_boxes", True) for m in models]
    if len(set(rules)) > 1:
        clipped = [label for label, clips in zip(labels, rules, strict=True) if clips]
        LOGGER.warning(
            f"{', '.join(clipped)}: boxes are clipped to the image before they are compared, those of the others are "
            "not, as their families define it; where objects reach the border this alone can be 0.02 of AP"
        )


def _check_same_images(a: DetMetrics, b: DetMetrics, first: str, second: str) -> None:
    """Paired differences need the same images in the same order, with the same number of targets."""
    seen = [[(s.get("im_name"), len(list(s["target_cls"]))) for s in m.stats] for m in (a, b)]  # type: ignore[arg-type]
    if seen[0] != seen[1]:
        sizes = f"{len(seen[0])} and {len(seen[1])}"
        raise ConfigError(f"{first} and {second} were not validated on the same images ({sizes})", "pass data=my.yaml")


def models_table(results: dict[str, DetMetrics]) -> Table:
    """A row for each model: COCO's numbers, the interval of the AP, and the time of inference."""
    rows: list[tuple[Value, ...]] = []
    for label, metrics in results.items():
        stats = metrics.coco_stats
        values = [None if stats[name] < 0 else stats[name] for name in METRIC_COLUMNS]
        drawn = metrics.bootstrap
        low, high = (None, None) if drawn is None else drawn.interval("AP", stats["AP"])[1:]
        rows.append((label, values[0], low, high, *values[1:], metrics.speed["inference"]))
    heads = tuple(f"AP {head}" for head in interval_columns())
    return Table("Models", ("model", "AP", *heads, *METRIC_COLUMNS[1:], "ms"), tuple(rows))


def differences_table(results: dict[str, DetMetrics]) -> Table:
    """A row for each further model and number: the difference to the first model, its interval over the images."""
    (first, base), *others = results.items()
    rows: list[tuple[Value, ...]] = []
    for label, metrics in others:
        for name in PAIRED:
            change = metrics.coco_stats[name] - base.coco_stats[name]
            if metrics.bootstrap is None or base.bootstrap is None:
                raise ConfigError(f"{label} or {first} has no replicates", "call metrics.resample() first")
            _, low, high = metrics.bootstrap.difference(base.bootstrap, name, change)
            rows.append((label, name, change, low, high, "differs" if low > 0 or high < 0 else "no sign"))
    columns = ("model", "metric", "difference", *interval_columns(), "on these images")
    return Table(f"Differences to {first} ({SCOPE})", columns, tuple(rows))
