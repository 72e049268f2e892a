"""The measured end of a benchmark: does one unit of work when asked to, and answers with its seconds.

Orders come as lines on standard input (`go`, or anything else to stop), answers leave as lines of JSON on standard
output. What libraries print goes to standard error. Standard library only: every side's interpreter can import it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # at once: libraries print while they are imported, too


class Turns:
    """One side of a comparison; the other end is `common.Worker`."""

    def __init__(self) -> None:
        self._started: float | None = None

    def _say(self, **answer: Any) -> None:
        ANSWERS.write(json.dumps({**answer, "peak_mb": peak_mb()}) + "\n")
        ANSWERS.flush()

    def _wait(self) -> bool:
        return sys.stdin.readline().strip() == "go"

    def repeat(self, work: Callable[[], Any], **answer: Any) -> None:
        """Say that all is ready, then time `work` once for each order; a JSON value that it returns is the `value`."""
        self._say(ready=True, **answer)
        while self._wait():
            start = time.perf_counter()
            value = work()
            self._say(
                seconds=time.perf_counter() - start, value=value if isinstance(value, (int, float, str)) else None
            )

    def tick(self, *_: Any) -> None:
        """Mark the end of one unit of a loop that another owns; returns when the next unit is wanted.

        The callback of a training run: the first call says that all is ready. Without a further order the process ends.
        """
        if self._started is None:
            self._say(ready=True)
        else:
            self._say(seconds=time.perf_counter() - self._started)
        if not self._wait():
            os._exit(0)
        self._started = time.perf_counter()


def peak_mb() -> float:
    """Largest resident memory of this process so far, MB; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0.0
    scale = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def main(parts: Mapping[str, Callable[..., None]]) -> None:
    """Run the part that the command line names: `script.py PART '{"json": "arguments"}'`."""
    parts[sys.argv[1]](Turns(), **json.loads(sys.argv[2]))
