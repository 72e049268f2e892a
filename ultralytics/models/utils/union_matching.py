"""One set of pairs for all outputs of a decoder (GO-LSD of D-FINE, arXiv 2410.13842, section 3.2).

Shapes: K outputs, n pairs of an output, m pairs of the union. A pair is a query slot (image * Q + query) and a flat
target index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultralytics.models.utils.ops import IndexArray

__all__ = ("unite_pairs",)


def unite_pairs(slots: Sequence[IndexArray], targets: Sequence[IndexArray]) -> tuple[IndexArray, IndexArray]:
    """Pool the pairs of several outputs; each query slot keeps the target that it is paired with most often.

    Where two targets are as frequent, the lower index stays. One target may keep several queries.

    Args:
        slots: Query slots of each output, [n].
        targets: Their targets, [n].

    Returns:
        Slots [m], ascending and each once, and their targets [m].

    >>> unite_pairs([np.array([1, 4]), np.array([1, 5])], [np.array([0, 1]), np.array([0, 1])])
    (array([1, 4, 5]), array([0, 1, 1]))
    """
    pairs = np.stack((np.concatenate(slots), np.concatenate(targets)), 1)  # (K * n, 2)
    if not len(pairs):
        return pairs[:, 0], pairs[:, 1]
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((distinct[:, 1], -counts, distinct[:, 0]))  # by slot, the most frequent first, then the lowest
    distinct = distinct[order]
    first = np.append(True, distinct[1:, 0] != distinct[:-1, 0])
    return distinct[first, 0], distinct[first, 1]
