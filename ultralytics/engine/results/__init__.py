"""Predictions of one image, and lists of them."""

from ultralytics.engine.results.absent_results import OBB, Keypoints, Masks
from ultralytics.engine.results.boxes import BaseTensor, Boxes, Probs
from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results

__all__ = ["OBB", "BaseTensor", "Boxes", "Keypoints", "Masks", "Probs", "ResultList", "Results"]
