"""Detection metrics under upstream's names: box overlaps, AP, confusion matrix, and COCO's AP."""

from ultralytics.utils.metrics.absent_metrics import OBBMetrics, PoseMetrics, SegmentMetrics
from ultralytics.utils.metrics.ap import ClassCurves, Metric, ap_per_class, compute_ap, match_predictions
from ultralytics.utils.metrics.classify import ClassifyMetrics
from ultralytics.utils.metrics.coco import CocoImage, CocoResult, coco_ap
from ultralytics.utils.metrics.confusion import ConfusionMatrix
from ultralytics.utils.metrics.det import DetMetrics
from ultralytics.utils.metrics.iou import bbox_ioa, bbox_iou, box_iou
from ultralytics.utils.ops import smooth
from ultralytics.utils.plotting.curves import plot_mc_curve, plot_pr_curve

__all__ = [
    "ClassCurves",
    "ClassifyMetrics",
    "CocoImage",
    "CocoResult",
    "ConfusionMatrix",
    "DetMetrics",
    "Metric",
    "OBBMetrics",
    "PoseMetrics",
    "SegmentMetrics",
    "ap_per_class",
    "bbox_ioa",
    "bbox_iou",
    "box_iou",
    "coco_ap",
    "compute_ap",
    "match_predictions",
    "plot_mc_curve",
    "plot_pr_curve",
    "smooth",
]
