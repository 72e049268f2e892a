"""MuSGD: Muon (orthogonalised momentum of matrices, K. Jordan et al., 2024) and SGD with momentum in one optimizer.

Matrices and kernels take a step of each kind, everything else a step of SGD. State lies under `momentum_buffer`, and in
groups of Muon the buffer of SGD under `momentum_buffer_SGD`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from ultralytics.utils.errors import ConfigError

# Coefficients of the quintic iteration; its fixed points are near 1, not at it, which makes it fast.
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5
BOOST = 3.0  # learning rate of the class towers against the rest
BOOSTED = (".cv3.", ".one2one_cv3.")


@torch.no_grad()
def orthogonalize(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """Return the nearly orthogonal matrix next to a matrix (rows, columns), by Newton-Schulz steps in bfloat16.

    Singular values come out about 1. The shape stays; the type is bfloat16.
    """
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    for _ in range(steps):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.t() if tall else x


class MuSGD(torch.optim.Optimizer):
    """SGD with momentum, preceded by a Muon step in the groups that ask for it (`use_muon`).

    Args:
        params: Parameters or groups of them.
        lr: Learning rate of both kinds.
        momentum: Momentum of both kinds, 0..1.
        weight_decay: Added to the gradient of the SGD step.
        nesterov: Look ahead in both.
        use_muon: Default of a group; its parameters need at least 2 dimensions.
        muon: Factor of the rate for the Muon step.
        sgd: Factor of the rate for the SGD step in groups of Muon.

    Raises ConfigError for a negative rate or decay, or a momentum outside 0..1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        use_muon: bool = False,
        muon: float = 0.5,
        sgd: float = 0.5,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum <= 1:
            raise ConfigError(
                f"MuSGD: lr={lr} and weight_decay={weight_decay} must not be negative, momentum={momentum} lies in 0..1"
            )
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {**defaults, "use_muon": use_muon})
        self.muon, self.sgd = muon, sgd

    @overload
    def step(self, closure: None = ...) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, p.grad, group)
        return loss

    def _step_one(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if not group["use_muon"]:
            self._sgd(p, grad, group, "momentum_buffer", group["lr"])
            return
        beta = group["momentum"]
        buffer = self._buffer(p, "momentum_buffer")
        buffer.lerp_(grad, 1 - beta)
        ahead = grad.lerp(buffer, beta) if group["nesterov"] else buffer
        move = orthogonalize(ahead.flatten(1)).view_as(p).to(p.dtype)
        height, width = p.shape[-2:]
        p.add_(move, alpha=-group["lr"] * self.muon * math.sqrt(max(1.0, height / width)))
        self._sgd(p, grad, group, "momentum_buffer_SGD", group["lr"] * self.sgd)

    def _sgd(self, p: Tensor, grad: Tensor, group: dict[str, Any], name: str, lr: float) -> None:
        """A step without dampening; the decay acts on what a Muon step has moved already."""
        grad = grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else grad
        buffer = self._buffer(p, name).mul_(group["momentum"]).add_(grad)
        p.add_(grad.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer, alpha=-lr)

    def _buffer(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        buffer: Tensor = state[name]
        return buffer


def musgd_groups(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups of a YOLO network that training uses; empty ones are left out.

    By kind: weights of norms, biases, matrices and kernels (for Muon), and what else is a weight; each cut into the
    class towers of the head, at three times the rate, and the rest. Decay acts on kernels and other weights. Parameters
    that need no gradient are left out.
    """
    norms = tuple(v for k, v in vars(nn).items() if "Norm" in k and isinstance(v, type))
    found: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if p.requires_grad:
                kind = _kind(name, p, isinstance(module, norms))
                boosted = any(mark in f".{path}.{name}" for mark in BOOSTED)
                found.setdefault((kind, boosted), []).append(p)
    return [
        {
            "params": params,
            "lr": lr * (BOOST if boosted else 1.0),
            "momentum": momentum,
            "nesterov": True,
            "weight_decay": weight_decay if kind in ("weight", "muon") else 0.0,
            "use_muon": kind == "muon",
            "param_group": kind,
        }
        for (kind, boosted), params in found.items()
    ]


def _kind(name: str, p: nn.Parameter, in_norm: bool) -> str:
    """The group of a parameter: muon, bias, bn or weight."""
    if p.dim() in (2, 4):
        return "muon"
    if "bias" in name:
        return "bias"
    return "bn" if in_norm else "weight"
