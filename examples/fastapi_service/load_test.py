"""Load the service: clients that send pictures one after another, beside wrong and huge uploads.

    python load_test.py http://127.0.0.1:8000 --clients 8 --seconds 60

Exit code 1 when a picture was not answered with 200, a bad upload not with 4xx, or the memory of the service grew by
more than `--growth` MB from the middle third of the time to the last. Standard library, NumPy and OpenCV only.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import statistics
import threading
import time
import zlib
from collections import Counter
from urllib.parse import urlsplit

import cv2
import numpy as np

HUGE = 50_000_000  # bytes that an upload announces and does not send in full
BOMB_SIDE = 30_000  # px that a small PNG claims


def pictures(count: int = 8) -> list[bytes]:
    """JPEGs of several sizes: noise under shapes."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        h, w = (int(v) for v in rng.integers(200, 900, 2))
        image = cv2.resize(rng.integers(0, 255, (16, 16, 3), np.uint8), (w, h))
        for _ in range(6):
            x, y, r = int(rng.integers(0, w)), int(rng.integers(0, h)), int(rng.integers(10, 80))
            cv2.circle(image, (x, y), r, rng.integers(0, 255, 3).tolist(), -1)
        found.append(cv2.imencode(".jpg", image)[1].tobytes())
    return found


def bomb() -> bytes:
    """A small PNG whose header claims 900 million pixels."""
    small = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    header = b"IHDR" + BOMB_SIDE.to_bytes(4, "big") * 2 + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]


class Clients:
    """Threads that send until a time, and what they got."""

    def __init__(self, address: str, seconds: float) -> None:
        parts = urlsplit(address)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.end = time.monotonic() + seconds
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.memory: list[float] = []
        self.lock = threading.Lock()

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        return http.client.HTTPConnection(self.host, self.port, timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "image/jpeg") -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {"content-type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def client(self, number: int) -> None:
        """Send pictures one after another over one connection."""
        chosen, images = random.Random(number), pictures()
        connection = self.connection()
        while time.monotonic() < self.end:
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict?conf=0.05", chosen.choice(images), {"content-type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                status = str(answer.status)
            except (OSError, http.client.HTTPException) as e:
                status = type(e).__name__
                connection = self.connection()
            with self.lock:
                self.statuses[status] += 1
                self.seconds.append(time.perf_counter() - start)

    def wrong(self) -> None:
        """Send what must be refused, four times a second."""
        bodies = {"text": b"not an image", "empty": b"", "cut": pictures(1)[0][:300], "bomb": bomb()}
        while time.monotonic() < self.end:
            for name, body in bodies.items():
                self._note(name, self.ask("POST", "/predict", body)[0])
            self._note("conf", self.ask("POST", "/predict?conf=7", b"x")[0])
            self._note("huge", self._huge())
            time.sleep(0.25)

    def _huge(self) -> int:
        """Announce more bytes than the service takes; the answer comes before they are sent."""
        connection = self.connection()
        try:
            connection.putrequest("POST", "/predict")
            connection.putheader("content-length", str(HUGE))
            connection.endheaders()
            return connection.getresponse().status
        finally:
            connection.close()

    def _note(self, name: str, status: int) -> None:
        with self.lock:
            self.bad[f"{name} {status}"] += 1

    def watch(self) -> None:
        """Read the memory of the service, twice a second."""
        while time.monotonic() < self.end:
            text = self.ask("GET", "/metrics")[1].decode()
            match = re.search(r"(?m)^detector_resident_memory_bytes (\d+)", text)
            self.memory.append(int(match.group(1)) / 2**20 if match else 0.0)
            time.sleep(0.5)


def main() -> None:
    """Run the load, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--growth", type=float, default=64.0, help="MB that the memory may grow")
    args = parser.parse_args()
    run = Clients(args.address, args.seconds)
    jobs = [threading.Thread(target=run.client, args=(i,)) for i in range(args.clients)]
    jobs += [threading.Thread(target=run.wrong), threading.Thread(target=run.watch)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    third = max(len(run.memory) // 3, 1)
    grown = statistics.mean(run.memory[-third:]) - statistics.mean(run.memory[third : 2 * third] or run.memory)
    spent = sorted(run.seconds)
    print(
        f"{args.clients} clients, {args.seconds:g} s: {len(spent)} pictures, {len(spent) / args.seconds:.1f} a second"
    )
    print("seconds: " + ", ".join(f"p{p} {spent[int(len(spent) * p / 100)]:.3f}" for p in (50, 90, 99)))
    print(f"answers: {dict(run.statuses)}")
    print(f"bad uploads: {dict(sorted(run.bad.items()))}")
    print(f"memory: {min(run.memory):.0f} to {max(run.memory):.0f} MB, last third {grown:+.1f} MB on the middle one")
    print(run.ask("GET", "/metrics")[1].decode())
    wrong = set(run.statuses) - {"200"} or [name for name in run.bad if not re.search(r" 4\d\d$", name)]
    if wrong or grown > args.growth:
        raise SystemExit(f"failed: {wrong or 'memory grows'}")


if __name__ == "__main__":
    main()
