"""Tensors that are watched: a change is seen, and nothing is kept alive by it."""

import copy
import gc
import weakref

import pytest
import torch

from ultralytics.nn.cpu.versions import ModelVersion, TensorVersions


def test_what_is_left_alone_is_the_same():
    tensors = [torch.ones(3), None, torch.zeros(0)]
    watched = TensorVersions(tensors)
    assert watched.match(tensors)
    assert not watched.match(tensors[:2])
    assert not watched.match([None, *tensors[1:]])
    assert TensorVersions([]).match([]) and not TensorVersions([]).match(tensors)


@pytest.mark.parametrize("change", [lambda t: t.mul_(2), lambda t: t.copy_(t.clone()), lambda t: t.zero_()])
def test_a_change_in_place_is_seen(change):
    tensor = torch.ones(3)
    watched = TensorVersions([tensor])
    change(tensor)
    assert not watched.match([tensor])


def test_another_tensor_over_the_same_memory_is_seen():
    tensor = torch.ones(3)
    assert not TensorVersions([tensor]).match([tensor.detach()])


def test_nothing_is_kept_alive():
    tensor = torch.ones(3)
    watched, alive = TensorVersions([tensor]), weakref.ref(tensor)
    del tensor
    gc.collect()
    assert alive() is None
    assert not watched.match([torch.ones(3)])


def test_tensors_of_inference_mode_can_be_watched():
    with torch.inference_mode():
        tensor = torch.ones(3)
    assert TensorVersions([tensor]).match([tensor])


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


def _hook(net):
    net[0].register_forward_hook(lambda *_: None)


def _pre_hook_of_a_module_without_tensors(net):
    net[2].register_forward_pre_hook(lambda *_: None)


def _set_attribute(net):
    net[2].negative_slope = 0.5


def _gain_of_a_module_without_tensors(net):
    net[2].register_buffer("extra", torch.ones(1))


def _change_a_list(net):
    net.sizes[0] = 4


def _change_a_dictionary(net):
    net.options["a"] = 2


CHANGES = [
    _prune,
    _replace_parameter,
    _replace_module,
    _train,
    _drop,
    torch.nn.Module.double,
    _hook,
    _pre_hook_of_a_module_without_tensors,
    _set_attribute,
    _gain_of_a_module_without_tensors,
    _change_a_list,
    _change_a_dictionary,
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_a_network_are_seen(change):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.LeakyReLU())
    net[0].register_module("none", None)
    net.sizes, net.options = [1, 2], {"a": 1}
    net.eval()
    watched = ModelVersion(net)
    with torch.no_grad():
        net.eval()(torch.randn(4, 1, 2, 2))
    assert watched.unchanged(net)
    assert not watched.unchanged(copy.deepcopy(net))
    change(net)
    assert not watched.unchanged(net)


def test_a_hook_that_is_removed_is_seen():
    net = torch.nn.Sequential(torch.nn.ReLU())
    handle = net[0].register_forward_hook(lambda *_: None)
    watched = ModelVersion(net)
    handle.remove()
    assert not watched.unchanged(net)


def test_a_network_of_inference_mode_can_be_watched():
    with torch.inference_mode():
        net = torch.nn.Linear(1, 1)
    assert ModelVersion(net).unchanged(net)
