"""The command line `yolo`: tokens to a call."""

from ultralytics.cli.main import entrypoint

__all__ = ["entrypoint"]
