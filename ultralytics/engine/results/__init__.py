"""Predictions of one image, and lists of them."""

from ultralytics.engine.results.boxes import BaseTensor, Boxes, Probs
from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results

__all__ = ["BaseTensor", "Boxes", "Probs", "ResultList", "Results"]
