from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from tests.processes import process_context
from ultralytics.utils import dist
from ultralytics.utils.dist import ProcessLock

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK")


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ({}, (1, -1, -1, True)),
        ({"RANK": "3", "LOCAL_RANK": "1"}, (1, -1, -1, True)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (1, -1, -1, True)),
        ({"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}, (4, 0, 0, True)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, (4, 3, 1, False)),
        ({"WORLD_SIZE": "four"}, (1, -1, -1, True)),
        ({"WORLD_SIZE": ""}, (1, -1, -1, True)),
    ],
)
def test_ranks(env: dict[str, str], want: tuple[int, int, int, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert (dist.world_size(), dist.rank(), dist.local_rank(), dist.is_main()) == want


def test_alone_everything_is_itself() -> None:
    x = torch.ones(2)
    assert not dist.is_initialized()
    assert dist.all_reduce_sum(x) is x
    assert dist.all_gather_objects({"a": 1}) == [{"a": 1}]
    assert dist.broadcast_object("b") == "b"
    dist.barrier()


def _work(rank: int, world: int, store: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    assert dist.is_initialized()
    assert dist.all_reduce_sum(torch.tensor([float(rank + 1)])).item() == 3.0
    assert dist.all_gather_objects(f"r{rank}") == ["r0", "r1"]
    assert dist.broadcast_object(rank) == 0
    dist.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path: object) -> None:
    method = process_context().get_start_method()
    torch.multiprocessing.start_processes(_work, (2, f"{tmp_path}/store"), nprocs=2, start_method=method)


def test_a_lock_is_free_in_a_forked_child() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    lock, held, release = ProcessLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        with lock, lock:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    release.set()
    thread.join()
    assert status == 0
    with lock:
        pass
