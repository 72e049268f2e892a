"""Names of the box losses (`ultralytics.models.utils.box_losses`), apart from them so that settings need no torch."""

from __future__ import annotations

from typing import NamedTuple

from ultralytics.utils.errors import ConfigError

__all__ = ("BOX_LOSSES", "BoxLossName", "parse_box_loss")

IOU_LOSSES = (
    "giou",
    "diou",
    "ciou",
    "eiou",
    "siou",
    "shapeiou",
    "piou",
    "piou2",
    "mpdiou",
    "wiou",
    "wiou1",
    "wiou2",
    "wiou3",
)
"""Losses that are made of an IoU, which the prefixes replace."""

BOX_LOSSES = (*IOU_LOSSES, "nwd", "gcd")
"""All names without a prefix."""

PREFIXES = ("inner", "focaler")

BOX_LOSS_RULE = f"one of {', '.join(BOX_LOSSES)}; inner- and focaler- may stand before all but nwd and gcd"


class BoxLossName(NamedTuple):
    """A name taken apart."""

    base: str
    inner: bool
    focaler: bool

    def __str__(self) -> str:
        """The form with hyphens, `inner-` first."""
        return "-".join([*("inner",) * self.inner, *("focaler",) * self.focaler, self.base])


def parse_box_loss(name: str) -> BoxLossName:
    """Take a name such as `inner-ciou` apart; underscores count as hyphens, the case of letters is ignored.

    Raises:
        ConfigError: an unknown name, or a prefix before a loss that is not made of an IoU.

    >>> parse_box_loss("Inner_CIoU")
    BoxLossName(base='ciou', inner=True, focaler=False)
    """
    *prefixes, base = str(name).lower().replace("_", "-").split("-")
    known = base in (IOU_LOSSES if prefixes else BOX_LOSSES)
    if not known or set(prefixes) - set(PREFIXES) or len(set(prefixes)) < len(prefixes):
        raise ConfigError(f"box_loss={name!r} is not known; give {BOX_LOSS_RULE}")
    return BoxLossName(base, *(prefix in prefixes for prefix in PREFIXES))
