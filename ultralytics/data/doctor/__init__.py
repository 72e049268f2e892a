"""Examining a data set before training: the quick checks of a run, and the whole report of `yolo doctor`."""

from ultralytics.data.doctor.finding import Finding, Severity, worst
from ultralytics.data.doctor.quick_checks import preflight

__all__ = ["Finding", "Severity", "preflight", "worst"]
