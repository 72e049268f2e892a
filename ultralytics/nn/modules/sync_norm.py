"""Batch norm whose statistics are those of the batches of all processes, for CPUs, where PyTorch has none.

Shapes: x (B, C, ...), n values of a channel over all processes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from ultralytics.utils.ops import at_least_float32


class _Sum(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(x))


class SyncNorm(nn.BatchNorm2d):
    """`nn.SyncBatchNorm` out of differentiable sums, for gloo; takes x of any number of dimensions.

    The sum of squares is taken around the common mean, so that the result is as exact as that of one process. Outside
    of training, or of a process group, it is an ordinary batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs (B, C, ...), got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the statistics of all processes."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(input)
        self._check_input_dim(input)
        x = at_least_float32(input)
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        size = x.new_full((1,), x.numel() / x.shape[1])
        total = _sum(torch.cat((x.sum(axes), size)))  # (C + 1,)
        n = total[-1].detach()
        mean = total[:-1] / n
        centred = x - mean.view(shape)
        var = _sum(centred.square().sum(axes)) / n
        self._remember(mean.detach(), var.detach() * (n / (n - 1).clamp(min=1)))
        scale = (var + self.eps).rsqrt()
        if self.affine:
            return torch.addcmul(self.bias.view(shape), centred, (scale * self.weight).view(shape)).to(input.dtype)
        return (centred * scale.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var, momentum)


def convert_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm below `module` by a synchronised one with the same parameters and statistics."""
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            new = SyncNorm(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            for key, parameter in child.named_parameters():  # the same ones, which an optimizer may hold already
                new.register_parameter(key, parameter)
            for key, buffer in child.named_buffers():
                new.register_buffer(key, buffer)
            new.train(child.training)
            setattr(module, name, new)
        else:
            convert_norms(child, device)
    return module
