"""Tensors that are watched: a change is seen, and nothing is kept alive by it."""

import copy
import gc
import weakref

import pytest
import torch

from ultralytics.nn.cpu.versions import Watched, WatchedNetwork


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


def _prune(net):
    net[0].register_buffer("mask", torch.ones(1))


def _replace_parameter(net):
    net[0].weight = torch.nn.Parameter(net[0].weight.detach())


def _replace_module(net):
    net[1] = torch.nn.BatchNorm2d(2)


def _train(net):
    net.train()(torch.randn(4, 1, 2, 2))  # moves the statistics


def _drop(net):
    net[0].bias = None


@pytest.mark.parametrize("change", [_prune, _replace_parameter, _replace_module, _train, _drop, torch.nn.Module.double])
def test_changes_of_a_network_are_seen(change):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    net[0].register_module("none", None)
    watched = WatchedNetwork(net)
    with torch.no_grad():
        net.eval()(torch.randn(4, 1, 2, 2))
    assert watched.is_still(net)
    assert not watched.is_still(copy.deepcopy(net))
    change(net)
    assert not watched.is_still(net)


def test_a_network_of_inference_mode_can_be_watched():
    with torch.inference_mode():
        net = torch.nn.Linear(1, 1)
    assert WatchedNetwork(net).is_still(net)
