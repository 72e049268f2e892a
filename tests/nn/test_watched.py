"""Tensors that are watched: a change is seen, and nothing is kept alive by it."""

import gc
import weakref

import pytest
import torch

from ultralytics.nn.watched import Watched, tensors_of


def test_what_is_left_alone_is_the_same():
    tensors = [torch.ones(3), None, torch.zeros(0)]
    watched = Watched(tensors)
    assert watched.are(tensors)
    assert not watched.are(tensors[:2])
    assert not watched.are([None, *tensors[1:]])
    assert Watched([]).are([]) and not Watched([]).are(tensors)


@pytest.mark.parametrize("change", [lambda t: t.mul_(2), lambda t: t.copy_(t.clone()), lambda t: t.zero_()])
def test_a_change_in_place_is_seen(change):
    tensor = torch.ones(3)
    watched = Watched([tensor])
    change(tensor)
    assert not watched.are([tensor])


def test_another_tensor_over_the_same_memory_is_seen():
    tensor = torch.ones(3)
    assert not Watched([tensor]).are([tensor.detach()])


def test_nothing_is_kept_alive():
    tensor = torch.ones(3)
    watched, alive = Watched([tensor]), weakref.ref(tensor)
    del tensor
    gc.collect()
    assert alive() is None
    assert not watched.are([torch.ones(3)])


def test_tensors_of_inference_mode_can_be_watched():
    with torch.inference_mode():
        tensor = torch.ones(3)
    assert Watched([tensor]).are([tensor])


def test_tensors_of_a_network_are_all_that_it_holds():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    net.register_module("none", None)
    found = [t for t in tensors_of(net) if t is not None]
    assert {id(t) for t in found} == {id(t) for t in (*net.parameters(), *net.buffers())} and len(found) == 8
