"""The command line `yolo`: tokens to a call."""

from ultralytics.cli.grammar import parse_overrides
from ultralytics.cli.main import entrypoint, user_errors

__all__ = ["entrypoint", "parse_overrides", "user_errors"]
