"""The metrics object of a detector: collects per-image statistics and reports them under upstream's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ultralytics.utils.metrics.ap import ClassCurves, Metric, OnPlot, ap_per_class, draw_curves
from ultralytics.utils.metrics.bootstrap import SAMPLES, Bootstrap, bootstrap_coco
from ultralytics.utils.metrics.coco import MAX_DETS, CocoImage, CocoResult, coco_ap
from ultralytics.utils.metrics.confusion import ConfusionMatrix
from ultralytics.utils.metrics.report import Table, all_tables
from ultralytics.utils.tables import csv_of, names_by_id
from ultralytics.utils.torch_tools.arrays import Float64Array

if TYPE_CHECKING:
    import pandas as pd

StatValue = npt.NDArray[np.generic] | str | int | None
REQUIRED = ("tp", "conf", "pred_cls", "target_cls")
COCO_REQUIRED = ("pred_boxes", "target_boxes")


def _image_metrics(tp: npt.NDArray[np.bool_], targets: int) -> dict[str, float]:
    """P, R, F1 and counts of one image at IoU 0.5 over all predictions; 1 without targets and detections."""
    hits, detections = int(tp[:, 0].sum()), len(tp)
    empty = float(detections == 0 and targets == 0)
    p = hits / detections if detections else empty
    r = hits / targets if targets else empty
    f1 = 2 * p * r / (p + r) if p + r else 0.0
    return {"precision": p, "recall": r, "f1": f1, "tp": hits, "fp": detections - hits, "fn": targets - hits}


def _coco_image(stat: Mapping[str, StatValue]) -> CocoImage:
    """Rename one image's statistics for `coco_ap`."""

    def array(key: str) -> npt.NDArray[Any]:
        return np.asarray(stat[key])

    image_id = stat["image_id"]
    return CocoImage(
        array("pred_boxes"),
        array("conf"),
        array("pred_cls"),
        array("target_boxes"),
        array("coco_cls"),
        None if stat.get("areas") is None else array("areas"),
        None if stat.get("crowd") is None else array("crowd"),
        image_id if isinstance(image_id, int) else str(image_id),
        int(cast("int", stat.get("max_dets") or MAX_DETS[-1])),
    )


class DetMetrics:
    """Precision, recall and AP of a detector over a data set.

    Built by hand it reports upstream's AP (trapezoid rule, a perfect detector gets 0.995). With `coco=True`, as the
    validator builds it, `box.map`, `map50`, `map75`, `maps` and all that derives from them are COCO's, `coco_stats`
    holds the 12 COCO numbers, and `update_stats` needs the boxes. `one_class_stats` are the same with one class for
    each query, after a validation with `match=both`.
    """

    def __init__(
        self, names: Mapping[int, str] | Sequence[str] = (), coco: bool = False, shown_conf: float = 0.25
    ) -> None:
        """Start empty for the classes in `names`; `shown_conf` is the score above which a user sees a box."""
        self.names = names_by_id(names)
        self.coco = coco
        self.coco_result: CocoResult | None = None
        self.box = Metric(len(self.names))
        self.class_curves: ClassCurves | None = None
        self.bootstrap: Bootstrap | None = None
        self.one_class_stats: dict[str, float] = {}
        self.shown_conf = shown_conf
        self.times: dict[str, dict[str, float]] = {}
        self.speed = {"preprocess": 0.0, "inference": 0.0, "loss": 0.0, "postprocess": 0.0}
        self.task = "detect"
        self.save_dir = Path()
        self.confusion_matrix: ConfusionMatrix | None = None
        self.stats: list[Mapping[str, StatValue]] = []
        self.nt_per_class = self.nt_per_image = np.zeros(len(self.names), dtype=np.int64)

    def __repr__(self) -> str:
        means = ", ".join(f"{key.split('/')[1]} {value:.4g}" for key, value in self.results_dict.items() if "/" in key)
        return f"DetMetrics({len(self.names)} classes, {len(self.stats)} images: {means})"

    def update_stats(self, stat: Mapping[str, StatValue]) -> None:
        """Add one image (n predictions in falling confidence, m targets).

        `tp` (n, 10) bool, `conf` (n,), `pred_cls` (n,), `target_cls` (m,). With `im_name`, the image gets its own entry
        in `box.image_metrics`: pass the whole path, so that equal names in two folders stay apart. For COCO's AP also
        `pred_boxes` (n, 4) and `target_boxes` (m, 4), xyxy in pixels of the original image; optional: `areas` (m,) if
        the targets' areas are not those of their boxes, `image_id`, `max_dets` (boxes of a class that count, else 100),
        and `crowd` (m,) bool: regions that hold any number of objects. COCO's AP takes these as pycocotools does; for
        all other numbers they are not targets.
        """
        needed = REQUIRED + (COCO_REQUIRED if self.coco else ())
        missing = [key for key in needed if stat.get(key) is None]
        if missing:
            raise KeyError(f"update_stats needs {', '.join(needed)}; missing: {', '.join(missing)}")
        every = np.asarray(stat["target_cls"])
        crowd = np.zeros(len(every), bool) if stat.get("crowd") is None else np.asarray(stat["crowd"], bool)
        targets = {"coco_cls": every, "target_cls": every[~crowd]}
        self.stats.append({"image_id": len(self.stats), **stat, **targets})
        if isinstance(stat.get("im_name"), str):
            tp = np.asarray(stat["tp"], dtype=bool).reshape(-1, 10)
            self.box.image_metrics[str(stat["im_name"])] = _image_metrics(tp, int((~crowd).sum()))

    def clear_stats(self) -> None:
        """Forget the collected images, keep the results."""
        self.stats = []

    def _column(self, key: str) -> npt.NDArray[np.generic]:
        """Return one statistic of all images in one array."""
        arrays = [np.asarray(s[key]) for s in self.stats]
        if key == "tp":
            arrays = [a.astype(bool).reshape(-1, 10) for a in arrays]
        return np.concatenate(arrays)

    def process(
        self, save_dir: Path = Path(), plot: bool = False, on_plot: OnPlot | None = None
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Compute all results from what was collected; with `plot` draw the curves into `save_dir`.

        Returns the collected statistics, one array each; empty when there are none, and the results stay at zero.
        """
        if not self.stats:
            return {}
        columns = {key: self._column(key) for key in REQUIRED}
        target_cls = columns["target_cls"].astype(np.int64)
        self.nt_per_class = np.bincount(target_cls, minlength=len(self.names))
        seen = [np.unique(np.asarray(s["target_cls"]).astype(np.int64)) for s in self.stats]
        self.nt_per_image = np.bincount(np.concatenate(seen), minlength=len(self.names))
        self.save_dir = Path(save_dir)
        curves = ap_per_class(
            columns["tp"].astype(bool),
            columns["conf"].astype(np.float64),
            columns["pred_cls"].astype(np.float64),
            target_cls.astype(np.float64),
        )
        if self.coco:
            curves = curves._replace(ap=self._coco_ap(curves))
        self.box.update(curves)
        self.class_curves = curves
        if plot:
            self.plot_curves(self.save_dir, on_plot)
        return columns

    def plot_curves(self, save_dir: Path, on_plot: OnPlot | None = None) -> None:
        """Draw the curves into `save_dir`; nothing before `process`, nor when nothing was collected."""
        if self.class_curves is not None:
            draw_curves(self.class_curves, self.names, Path(save_dir), "Box", on_plot)

    def _coco_ap(self, curves: ClassCurves) -> Float64Array:
        """Compute COCO's numbers; return AP (C, T) of the classes that have targets."""
        self.coco_result = coco_ap(self.coco_images())
        rows = np.searchsorted(self.coco_result.classes, curves.unique_classes)
        return self.coco_result.ap[rows, 0]

    def coco_images(self) -> list[CocoImage]:
        """Return what was collected, as `coco_ap` takes it; needs `coco=True`."""
        return [_coco_image(s) for s in self.stats]

    def resample(self, samples: int = SAMPLES, seed: int = 0) -> Bootstrap:
        """Draw replicates of COCO's numbers over the images, keep and return them; needs `coco=True`."""
        self.bootstrap = bootstrap_coco(self.coco_images(), samples, seed)
        return self.bootstrap

    def tables(self, conf: float | None = None) -> dict[str, Table]:
        """Return the tables `coco`, `classes`, `sizes`, `thresholds` and `times`; needs `coco=True` and `process`.

        P, R and F1 are also given at `conf`, by default the confidence that users see. Intervals need `resample`.
        """
        return all_tables(self, self.shown_conf if conf is None else conf)

    @property
    def coco_stats(self) -> dict[str, float]:
        """The 12 COCO numbers by name (-1: undefined); empty before `process`, and without `coco=True`."""
        return self.coco_result.as_dict() if self.coco_result else {}

    @property
    def keys(self) -> list[str]:
        """Names of `mean_results`, as in results.csv."""
        return ["metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)"]

    def mean_results(self) -> list[float]:
        """Return [precision, recall, AP50, AP50-95]."""
        return self.box.mean_results()

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """Return (precision, recall, AP50, AP50-95) of the i-th class that has targets."""
        return self.box.class_result(i)

    @property
    def maps(self) -> Float64Array:
        """AP50-95 of every class id; a class without targets gets the mean."""
        return self.box.maps

    @property
    def fitness(self) -> float:
        """What the best checkpoint is chosen by: AP50-95."""
        return self.box.fitness()

    @property
    def ap_class_index(self) -> npt.NDArray[np.int64]:
        """Class ids that have targets, rising."""
        return self.box.ap_class_index

    @property
    def results_dict(self) -> dict[str, float]:
        """The four means and the fitness by name."""
        return dict(zip([*self.keys, "fitness"], [*self.mean_results(), self.fitness], strict=True))

    @property
    def curves(self) -> list[str]:
        """Names of `curves_results`."""
        return ["Precision-Recall(B)", "F1-Confidence(B)", "Precision-Confidence(B)", "Recall-Confidence(B)"]

    @property
    def curves_results(self) -> list[list[Float64Array | str]]:
        """[x, y, x label, y label] of each curve."""
        return self.box.curves_results

    def summary(self, normalize: bool = True, decimals: int = 5) -> list[dict[str, str | float | int]]:
        """Return one row per class that has targets; values in 0 to 1, or in percent with `normalize=False`."""
        scale = 1 if normalize else 100
        rows: list[dict[str, str | float | int]] = []
        for i, c in enumerate(self.ap_class_index.tolist()):
            p, r, ap50, ap = self.class_result(i)
            values = {
                "Box-P": p, "Box-R": r, "Box-F1": float(self.box.f1[i]),
                "mAP50": ap50, "mAP75": float(self.box.all_ap[i, 5]), "mAP50-95": ap,
            }  # fmt: skip
            rows.append(
                {
                    "Class": self.names.get(c, str(c)),
                    "Images": int(self.nt_per_image[c]),
                    "Instances": int(self.nt_per_class[c]),
                    **{key: round(value * scale, decimals) for key, value in values.items()},
                }
            )
        return rows

    def to_df(self, normalize: bool = True, decimals: int = 5) -> pd.DataFrame:
        """Return the summary as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.summary(normalize, decimals))

    def to_csv(self, normalize: bool = True, decimals: int = 5) -> str:
        """Return the summary as CSV text."""
        return csv_of(self.to_df(normalize, decimals))

    def to_json(self, normalize: bool = True, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return str(self.to_df(normalize, decimals).to_json(orient="records"))

    def to_latex(self, normalize: bool = True, decimals: int = 3) -> str:
        """Return the summary as a LaTeX table for the package `booktabs`."""
        rows = self.summary(normalize, decimals)
        if not rows:
            return ""
        return Table("Classes", tuple(rows[0]), tuple(tuple(row.values()) for row in rows)).render("latex", decimals)
