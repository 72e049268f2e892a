"""Check that the weights of a network are finite: those of a diverged run are not, and may still give boxes."""

from __future__ import annotations

from torch import Tensor, nn

from ultralytics.utils.log import LOGGER


def check_finite(net: nn.Module, origin: str = "the network") -> bool:
    """Whether all weights of a network are finite; a warning names the first that is not. `origin` says whose it is.

    Of buffers only NaN counts: an infinite value in one may be a mask.
    """
    wrong = [k for k, p in net.named_parameters() if not _is_finite(p)]
    wrong += [k for k, b in net.named_buffers() if not _is_finite(b, allow_inf=True)]
    if wrong:
        LOGGER.warning(
            f"{origin}: {wrong[0]} holds numbers that are not finite, so the output of this network is meaningless; "
            "take an older checkpoint"
        )
    return not wrong


def _is_finite(tensor: Tensor, allow_inf: bool = False) -> bool:
    """Whether a tensor holds finite numbers alone, with `allow_inf` those that are infinite too."""
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return True
    ends = tensor.aminmax()  # both are NaN where one number is; quicker than a look at each number
    return not any(bool(end.isnan() if allow_inf else ~end.isfinite()) for end in ends)
