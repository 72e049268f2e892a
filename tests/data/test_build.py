"""Samplers and loaders: the order, its continuation, ranks and worker processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.data.sets import data_dict, hyp, make_set
from ultralytics.data.build import EpochSampler, build_dataloader, build_yolo_dataset, fraction_of
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils.errors import ConfigError

# ---- sampler ----


@pytest.mark.parametrize("n, world", [(0, 1), (1, 1), (10, 1), (10, 2), (11, 3), (2, 5)])
def test_ranks_share_one_order(n: int, world: int) -> None:
    """Interleaved, the ranks' parts are the single process's order, continued from its start."""
    single = EpochSampler(n, seed=3)
    ranks = [EpochSampler(n, seed=3, rank=r, world=world) for r in range(world)]
    for epoch in range(3):
        for sampler in (single, *ranks):
            sampler.set_epoch(epoch)
        parts = [list(sampler) for sampler in ranks]
        assert {len(p) for p in parts} == {len(s) for s in ranks} == {-(-n // world)}
        merged = [i for group in zip(*parts, strict=True) for i in group]
        whole = list(single)
        assert sorted(whole) == list(range(n)) and merged[:n] == whole
        assert all(i.epoch == epoch for i in single)


def test_orders_differ_by_epoch_and_seed_and_repeat() -> None:
    def order(seed: int, epoch: int) -> Sequence[int]:
        sampler = EpochSampler(50, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert list(EpochSampler(5, shuffle=False)) == [0, 1, 2, 3, 4]


def test_unpadded_ranks_count_each_image_once() -> None:
    ranks = [EpochSampler(11, shuffle=False, rank=r, world=3, pad=False) for r in range(3)]
    parts = [list(s) for s in ranks]
    assert sorted(i for p in parts for i in p) == list(range(11)) and [len(p) for p in parts] == [len(s) for s in ranks]


def test_resuming_inside_an_epoch() -> None:
    sampler = EpochSampler(20, seed=1)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.set_start(6)
    assert list(sampler) == whole[6:] and len(sampler) == 20
    sampler.set_epoch(5)
    assert len(list(sampler)) == 20


# ---- loader ----

AUGMENT = hyp(mosaic=0.5, mixup=0.3, hsv_s=0.5, fliplr=0.5, scale=0.5)


def loader(root: Path, workers: int = 0, batch: int = 4, **options):
    ds = YOLODataset(str(root / "images/train"), 64, augment=True, hyp=AUGMENT, letterbox=False, data=data_dict(root))
    return build_dataloader(ds, batch, workers, **options)


def content(batches) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    return [(list(b["im_file"]), b["img"], b["bboxes"]) for b in batches]


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        x[0] == y[0] and torch.equal(x[1], y[1]) and torch.equal(x[2], y[2]) for x, y in zip(a, b, strict=True)
    )


def test_workers_change_nothing_and_see_the_mosaic_close(tmp_path: Path) -> None:
    """Equal batches for 0 and 2 workers in two epochs and from the middle of one; closing reaches live workers."""
    make_set(tmp_path, 10)
    here, there = loader(tmp_path), loader(tmp_path, workers=2)
    assert there.num_workers == 2 and there.persistent_workers
    for epoch in range(2):
        for dl in (here, there):
            dl.sampler.set_epoch(epoch)
        assert same(content(here), content(there))
    for dl in (here, there):
        dl.sampler.set_epoch(1)
        dl.sampler.set_start(4)
    rest = content(there)
    assert same(content(here), rest) and len(rest) == 2
    open_batches = content(here)
    for dl in (here, there):
        dl.dataset.close_mosaic()
    closed = content(there)
    assert same(content(here), closed) and not same(closed, open_batches)


def test_the_global_random_state_is_not_touched(tmp_path: Path) -> None:
    make_set(tmp_path)
    dl = loader(tmp_path)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    list(dl)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


@pytest.mark.parametrize(
    "n, batch, workers, want",
    [(6, 4, 2, (2, 4, 2)), (6, 16, 2, (1, 6, 0)), (6, 1, 0, (6, 1, 0)), (3, 3, 8, (1, 3, 0))],
)
def test_sizes(tmp_path: Path, n: int, batch: int, workers: int, want: tuple[int, int, int]) -> None:
    make_set(tmp_path, n)
    dl = loader(tmp_path, workers, batch)
    assert (len(dl), dl.batch_size, min(dl.num_workers, 2)) == want


def test_tail_batches(tmp_path: Path) -> None:
    make_set(tmp_path, 6)
    assert [len(b["im_file"]) for b in loader(tmp_path)] == [4, 2]
    assert [len(b["im_file"]) for b in loader(tmp_path, drop_last=True)] == [4]


def test_ranks_get_their_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(tmp_path, 6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    files = [f for r in range(2) for b in loader(tmp_path, batch=2, rank=r, shuffle=False) for f in b["im_file"]]
    assert len(files) == len(set(files)) == 6


def test_rect_keeps_its_order_and_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(tmp_path, 6)
    options = {"augment": False, "rect": True, "batch_size": 4, "data": data_dict(tmp_path)}
    ds = YOLODataset(str(tmp_path / "images/train"), 64, **options)
    files = [f for b in build_dataloader(ds, 4, 0, shuffle=True) for f in b["im_file"]]
    assert files == ds.im_files
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="rect"):
        build_dataloader(ds, 4, 0, rank=0)


# ---- from arguments ----


def test_arguments_reach_the_data_set(tmp_path: Path) -> None:
    make_set(tmp_path, 6)
    cfg = SimpleNamespace(imgsz=64, cache=False, single_cls=True, classes=None, fraction=0.5, seed=3, mosaic=False)
    path, data = str(tmp_path / "images/train"), data_dict(tmp_path)
    train = build_yolo_dataset(cfg, path, 2, data, letterbox=False)
    val = build_yolo_dataset(cfg, path, 2, data, mode="val", rect=True)
    assert (len(train), train.augment, train.seed, train.single_cls, train.letterbox) == (3, True, 3, True, False)
    assert (len(val), val.augment, val.rect, val.batch_size, val.pad) == (6, False, True, 2, 0.5)


@pytest.mark.parametrize(
    "fraction, want",
    [(0.3, (0.3, 1.0, 1.0)), (5, (5, 1.0, 1.0)), ([0.3, 20], (0.3, 20, 1.0)), ([0.3, 0.2, 0.1], (0.3, 0.2, 0.1))],
)
def test_fractions_of_splits(fraction, want) -> None:
    assert tuple(fraction_of(fraction, mode) for mode in ("train", "val", "test")) == want


@pytest.mark.parametrize("mode", ["train", "val"])
def test_reduced_decoding_is_for_both_splits(tmp_path: Path, mode: str) -> None:
    images = str(make_set(tmp_path, 2))
    for on in (False, True):
        cfg = SimpleNamespace(**vars(hyp()), imgsz=32, reduced_decode=on)
        assert build_yolo_dataset(cfg, images, 2, data_dict(tmp_path), mode=mode).reduced_decode is on
