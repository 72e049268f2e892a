"""Optimizers that torch does not have."""

from __future__ import annotations

from ultralytics.optim.musgd import MuSGD, musgd_groups, orthogonalize

__all__ = ("MuSGD", "musgd_groups", "orthogonalize")
