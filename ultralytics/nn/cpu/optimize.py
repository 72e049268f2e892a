"""The one way into the CPU's fast path."""

from __future__ import annotations

import torch
from torch import nn

from ultralytics.nn.cpu.finite import check_finite
from ultralytics.nn.cpu.late_upsample import upsample_late
from ultralytics.nn.cpu.prepacked import prepack
from ultralytics.utils.torch_utils import has_onednn_operators, native_bf16


def optimize_for_cpu(net: nn.Module, origin: str = "the network", dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Prepare a fused network for bfloat16 autocast on a CPU, or for float32 (`dtype`), in place, and return it.

    Weights of bfloat16 are cast and laid out once (`prepack`), and nearest upsampling moves behind the 1x1 convolutions
    that read it (`upsample_late`); both fall back to the block's own `forward` wherever they do not apply. By the class
    attribute `late_upsample` a block takes part in the second, see there.

    Nothing is changed where torch comes without the operators or the CPU does not compute in bfloat16 itself (if that
    is asked for), nor for weights that are not finite (a warning names `origin`): ReLU inside of a convolution turns
    NaN into 0, and a run that diverged would look sound. NaN in an image, or in weights that change later, is not seen.
    """
    native = dtype is torch.float32 or native_bf16("cpu")
    if check_finite(net, origin) and native and has_onednn_operators():
        upsample_late(prepack(net, dtype))
    return net
