"""Runs inputs in a process of its own, with a limit of time and memory for each, and says what became of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from ultralytics.utils.errors import UserError

LIMIT_S = 10
LIMIT_BYTES = 2 << 30


class TooSlow(BaseException):
    """The time of an input is over."""


@dataclass
class Tally:
    """How many inputs of a kind were accepted, refused, or failed; of each failure its signature and first input."""

    accepted: int = 0
    refused: int = 0
    failures: dict[str, list[int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of inputs."""
        return self.accepted + self.refused + sum(map(len, self.failures.values()))


def run_kind(name: str, count: int, seed: int, first: int = 0) -> Tally:
    """Run the inputs `first` to `first + count` of a kind; one that ends its process fails, and the next are run."""
    tally, number, end = Tally(), first, first + count
    context = multiprocessing.get_context("fork")
    while number < end:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, name, seed, number, end), daemon=True)
        process.start()
        theirs.close()
        number = _listen(ours, tally, number, end)
        process.kill()
        process.join()
    return tally


def _listen(pipe: Connection, tally: Tally, number: int, end: int) -> int:
    """Take the answers of one process; return the next input, which another process is to run."""
    while number < end:
        if not pipe.poll(3 * LIMIT_S):
            tally.failures.setdefault("hang in a library", []).append(number)
            return number + 1
        try:
            state, text = pipe.recv()
        except EOFError:
            tally.failures.setdefault("the process died", []).append(number)
            return number + 1
        if state == "failed":
            tally.failures.setdefault(text, []).append(number)
        elif state == "refused":
            tally.refused += 1
        else:
            tally.accepted += 1
        number += 1
    return number


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def _work(pipe: Connection, name: str, seed: int, first: int, end: int) -> None:
    """The process: one answer an input."""
    from tests.fuzz.kinds import KINDS

    logging.disable(logging.CRITICAL)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    for number in (1, 2):  # what libraries print
        os.dup2(sys.stdout.fileno(), number)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.signal(signal.SIGALRM, _stop)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kind = KINDS[name](Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (pages + LIMIT_BYTES, resource.RLIM_INFINITY))
        for number in range(first, end):
            pipe.send(_one(kind.once, random.Random(f"{name}:{seed}:{number}")))


def _one(once: object, rng: random.Random) -> tuple[str, str]:
    """Run one input: accepted, refused with an error of the package, or failed."""
    signal.alarm(LIMIT_S)
    try:
        once(rng)  # type: ignore[operator]
    except UserError as e:
        state = "refused", str(e)
        if len(str(e)) > 4_000:
            state = "failed", f"a message of {len(str(e))} characters: {str(e)[:60]}"
    except TooSlow:
        state = "failed", f"over {LIMIT_S} s"
    except BaseException as e:
        frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(e.__traceback__)]
        state = "failed", f"{type(e).__name__} {str(e)[:80]!r} at {' < '.join(reversed(frames[-3:]))}"
    else:
        state = "accepted", ""
    finally:
        signal.alarm(0)
    return state
