"""Tables of calls, each with what is expected of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def check_call(call: Callable[[], Any], want: Any) -> None:
    """Assert that a call gives what is wanted; a class in its place is that of the error which it raises."""
    if isinstance(want, type):
        with pytest.raises(want):
            call()
    else:
        assert call() == want
