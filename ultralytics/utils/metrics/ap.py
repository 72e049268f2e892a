"""Average precision as upstream computes it, and the matching of predictions to targets that feeds it.

Shapes: n predictions, N targets, T IoU thresholds (10: 0.50 to 0.95), C classes that have targets. A perfect detector
gets 0.995 here because the curve is integrated by trapezoids that end below recall 1; the AP that this package reports
is COCO's (`coco.py`). Precision, recall, F1 and the curves come from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ultralytics.utils.ops import smooth
from ultralytics.utils.plotting.curves import plot_mc_curve, plot_pr_curve
from ultralytics.utils.torch_tools.arrays import BoolArray, Float64Array, IntArray

OnPlot = Callable[[Path], None]

RECALL_POINTS = 101  # COCO's sampling of the precision-recall curve
CURVE_POINTS = 1000  # confidences at which P, R and F1 are sampled


class ClassCurves(NamedTuple):
    """Result of `ap_per_class`, in upstream's order. Counts and P, R, F1 are taken at the best mean F1."""

    tp: Float64Array  # (C,) true positives at IoU 0.5
    fp: Float64Array  # (C,) false positives at IoU 0.5
    p: Float64Array  # (C,)
    r: Float64Array  # (C,)
    f1: Float64Array  # (C,)
    ap: Float64Array  # (C, T)
    unique_classes: IntArray  # (C,) class ids
    p_curve: Float64Array  # (C, 1000) over confidence
    r_curve: Float64Array  # (C, 1000) over confidence
    f1_curve: Float64Array  # (C, 1000) over confidence
    x: Float64Array  # (1000,) confidences, and the recalls of prec_values
    prec_values: Float64Array  # (C, 1000) precision over recall at IoU 0.5


def match_predictions(pred_cls: Tensor, true_cls: Tensor, iou: Tensor, iouv: Tensor) -> Tensor:
    """Decide which predictions are true positives.

    `pred_cls` (n,) in falling confidence, `true_cls` (N,), `iou` (N, n), `iouv` (T,) thresholds; returns (n, T) bool on
    the device of `pred_cls`. At each threshold on its own, each prediction in turn claims the best target of its class
    that is still free and overlaps enough. Ties go to the first target.

    >>> match_predictions(torch.tensor([0, 0]), torch.tensor([0]), torch.tensor([[0.6, 0.9]]), torch.tensor([0.5]))
    tensor([[ True],
            [False]])
    """
    thresholds = iouv.cpu().numpy()
    correct = np.zeros((len(pred_cls), len(thresholds)), dtype=bool)
    if len(true_cls) and len(pred_cls):
        overlap = (iou * (true_cls[:, None] == pred_cls[None])).cpu().numpy().T  # (n, N)
        free = np.ones((len(true_cls), len(thresholds)), dtype=bool)
        rows = np.arange(len(thresholds))
        # Most predictions of a DETR touch nothing: only those that reach the lowest threshold can change the state.
        for i in np.flatnonzero(overlap.max(1) >= thresholds.min()):
            open_iou = overlap[i][:, None] * free  # (N, T)
            best = open_iou.argmax(0)
            hit = open_iou[best, rows] >= thresholds
            correct[i] = hit
            free[best[hit], rows[hit]] = False
    return torch.from_numpy(correct).to(pred_cls.device)


def compute_ap(recall: Float64Array, precision: Float64Array) -> tuple[float, Float64Array, Float64Array]:
    """Return (AP, precision envelope, its recalls) of one curve given by falling confidence.

    >>> round(compute_ap(np.array([0.5, 1.0]), np.array([1.0, 0.5]))[0], 4)
    0.8725
    """
    last = recall[-1:] if len(recall) else np.ones(1)
    mrec = np.concatenate([[0.0], recall, last, [1.0]])
    mpre = np.concatenate([[1.0], precision, [0.0, 0.0]])
    envelope = np.flip(np.maximum.accumulate(np.flip(mpre)))
    x = np.linspace(0, 1, RECALL_POINTS)
    y = np.interp(x, mrec, envelope)
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2), envelope, mrec


def _class_curve(
    tp: BoolArray, conf: Float64Array, targets: int, x: Float64Array, eps: float
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Return AP (T,), P and R over confidence and P over recall (1000,) of one class, in falling confidence."""
    hits = tp.cumsum(0)  # (n, T)
    recall = hits / (targets + eps)
    precision = hits / np.arange(1, len(tp) + 1)[:, None]
    # Confidence falls along the list and np.interp wants rising positions: both are negated.
    r_curve = np.interp(-x, -conf, recall[:, 0], left=0)
    p_curve = np.interp(-x, -conf, precision[:, 0], left=1)
    curves = [compute_ap(recall[:, t], precision[:, t]) for t in range(tp.shape[1])]
    _, envelope, mrec = curves[0]
    return np.array([c[0] for c in curves]), p_curve, r_curve, np.interp(x, mrec, envelope)


def draw_curves(
    result: ClassCurves,
    names: Mapping[int, str],
    save_dir: Path,
    prefix: str = "",
    on_plot: OnPlot | None = None,
) -> None:
    """Draw `<prefix>{PR,F1,P,R}_curve.png` into `save_dir`; `names` {class id: name} label the lines."""
    labels = {i: names.get(int(c), str(int(c))) for i, c in enumerate(result.unique_classes)}
    files = [save_dir / f"{prefix}{kind}_curve.png" for kind in ("PR", "F1", "P", "R")]
    plot_pr_curve(result.x, result.prec_values, result.ap[:, 0], files[0], labels)
    for file, curve, name in zip(
        files[1:], (result.f1_curve, result.p_curve, result.r_curve), ("F1", "Precision", "Recall"), strict=True
    ):
        plot_mc_curve(result.x, curve, file, labels, ylabel=name)
    for file in files if on_plot else ():
        on_plot(file)  # type: ignore[misc]


def ap_per_class(
    tp: npt.NDArray[np.bool_],
    conf: npt.NDArray[np.floating],
    pred_cls: npt.NDArray[np.floating],
    target_cls: npt.NDArray[np.floating],
    plot: bool = False,
    on_plot: OnPlot | None = None,
    save_dir: Path = Path(),
    names: Mapping[int, str] | None = None,
    eps: float = 1e-16,
    prefix: str = "",
) -> ClassCurves:
    """Return AP, precision, recall and F1 of each class that has targets.

    `tp` (n, T) is, for each prediction and IoU threshold, whether it is a true positive, `conf` (n,) its confidence,
    `pred_cls` (n,) and `target_cls` (N,) the class ids. With `plot`, the curves are drawn into `save_dir`, labelled by
    `names`, and `on_plot` is called with each file.
    """
    order = np.argsort(-conf, kind="stable")
    tp, conf, pred_cls = tp[order], np.asarray(conf[order], dtype=np.float64), pred_cls[order]
    classes, counts = np.unique(target_cls, return_counts=True)
    x = np.linspace(0, 1, CURVE_POINTS)
    n = len(classes)
    ap = np.zeros((n, tp.shape[1]))
    p_curve, r_curve, prec_values = np.zeros((3, n, CURVE_POINTS))
    for i, (c, targets) in enumerate(zip(classes, counts, strict=True)):
        members = pred_cls == c
        if members.any():
            ap[i], p_curve[i], r_curve[i], prec_values[i] = _class_curve(
                tp[members], conf[members], int(targets), x, eps
            )
    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + eps)
    best = int(smooth(f1_curve.mean(0), 0.1).argmax()) if n else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    hits = (r * counts).round()
    result = ClassCurves(
        hits, (hits / (p + eps) - hits).round(), p, r, f1, ap, classes.astype(np.int64),
        p_curve, r_curve, f1_curve, x, prec_values,
    )  # fmt: skip
    if plot:
        draw_curves(result, names or {}, Path(save_dir), prefix, on_plot)
    return result


class Metric:
    """Numbers of one evaluation: per-class arrays of `ap_per_class` and the means that are reported.

    `i` in the methods counts classes that have targets; `ap_class_index[i]` is the class id. Before `update` everything
    is empty and the means are 0.
    """

    def __init__(self, nc: int = 0) -> None:
        """Start empty; `nc` is the number of classes that the data set names."""
        self.nc = nc
        self.p = self.r = self.f1 = np.zeros(0)
        self.all_ap: Float64Array = np.zeros((0, 10))
        self.ap_class_index: IntArray = np.zeros(0, dtype=np.int64)
        self.curves_data: ClassCurves | None = None
        self.image_metrics: dict[str, dict[str, float]] = {}

    def update(self, results: ClassCurves) -> None:
        """Take over the results."""
        self.p, self.r, self.f1 = results.p, results.r, results.f1
        self.all_ap = results.ap
        self.ap_class_index = results.unique_classes
        self.curves_data = results

    @property
    def ap50(self) -> Float64Array:
        """AP of each class at IoU 0.5."""
        return self.all_ap[:, 0]

    @property
    def ap(self) -> Float64Array:
        """AP of each class, averaged over IoU 0.50 to 0.95."""
        return self.all_ap.mean(1) if len(self.all_ap) else np.zeros(0)

    @property
    def mp(self) -> float:
        """Mean precision."""
        return float(self.p.mean()) if len(self.p) else 0.0

    @property
    def mr(self) -> float:
        """Mean recall."""
        return float(self.r.mean()) if len(self.r) else 0.0

    @property
    def map50(self) -> float:
        """Mean AP at IoU 0.5."""
        return float(self.ap50.mean()) if len(self.all_ap) else 0.0

    @property
    def map75(self) -> float:
        """Mean AP at IoU 0.75."""
        return float(self.all_ap[:, 5].mean()) if len(self.all_ap) else 0.0

    @property
    def map(self) -> float:
        """Mean AP over IoU 0.50 to 0.95."""
        return float(self.all_ap.mean()) if len(self.all_ap) else 0.0

    def mean_results(self) -> list[float]:
        """Return [precision, recall, AP50, AP50-95], each averaged over the classes with targets."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """Return (precision, recall, AP50, AP50-95) of the i-th class with targets."""
        return float(self.p[i]), float(self.r[i]), float(self.ap50[i]), float(self.ap[i])

    @property
    def maps(self) -> Float64Array:
        """AP50-95 of every class id (nc,); a class without targets gets the mean."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    def fitness(self) -> float:
        """Return what the best checkpoint is chosen by: AP50-95."""
        return self.map

    @property
    def curves(self) -> list[str]:
        """Names of `curves_results`."""
        return ["Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence"]

    @property
    def px(self) -> Float64Array:
        """The 1000 recalls and confidences of the curves, empty before `update`."""
        return np.zeros(0) if self.curves_data is None else self.curves_data.x

    @property
    def prec_values(self) -> Float64Array:
        """Precision over recall (C, 1000) of the classes with targets."""
        return np.zeros((0, 1000)) if self.curves_data is None else self.curves_data.prec_values

    @property
    def f1_curve(self) -> Float64Array:
        """F1 over confidence (C, 1000)."""
        return np.zeros((0, 1000)) if self.curves_data is None else self.curves_data.f1_curve

    @property
    def p_curve(self) -> Float64Array:
        """Precision over confidence (C, 1000)."""
        return np.zeros((0, 1000)) if self.curves_data is None else self.curves_data.p_curve

    @property
    def r_curve(self) -> Float64Array:
        """Recall over confidence (C, 1000)."""
        return np.zeros((0, 1000)) if self.curves_data is None else self.curves_data.r_curve

    @property
    def curves_results(self) -> list[list[Float64Array | str]]:
        """[x, y (C, 1000), x label, y label] of the PR, F1, P and R curves."""
        d = self.curves_data
        if d is None:
            return []
        return [
            [d.x, d.prec_values, "Recall", "Precision"],
            [d.x, d.f1_curve, "Confidence", "F1"],
            [d.x, d.p_curve, "Confidence", "Precision"],
            [d.x, d.r_curve, "Confidence", "Recall"],
        ]
