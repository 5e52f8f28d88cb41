"""The smallest change of a selection that restores the quotas, after rows were added to a hierarchy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Int

from strata.curation.allocation import Fill, first_of_group, water_fill


@dataclass(frozen=True)
class SelectionUpdate:
    """A selection and how it differs from the one before; all int64, ascending, a row r times if it is in r times."""

    rows: Int[np.ndarray, " n"]  # the new selection: kept and added
    kept: Int[np.ndarray, " a"]
    dropped: Int[np.ndarray, " b"]
    added: Int[np.ndarray, " c"]

    @classmethod
    def of(cls, old: Int[np.ndarray, " m"], new: Int[np.ndarray, " m"]) -> Self:
        """From how often each row was selected before and is now."""
        kept, rows = np.minimum(old, new), np.arange(len(new))
        return cls(*(np.repeat(rows, counts) for counts in (new, kept, old - kept, new - kept)))


def favoring_quotas(
    n: int,
    capacities: Sequence[Int[np.ndarray, " k"]],
    parents: Sequence[Int[np.ndarray, " k"]],
    labels: Int[np.ndarray, " n"],
    old: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> list[Int[np.ndarray, " k"]]:
    """Quotas as water-filling gives them, the remainders to whom the old selection loses least; the rest is drawn.

    A node's budget takes one of two values, ``base`` or ``base + 1``, whoever gets the remainders above it: a parent
    with one more gives it to one more of its open children. So what a node would keep more of the old selection with
    ``base + 1`` is found bottom up (it is 0 or 1), and remainders are then given top down to those where it is 1
    first. No other choice of the remainders keeps more.

    Args:
        n: how many are selected.
        capacities: of the clusters of each level, lowest first.
        parents: of the clusters of each level in the level above; zeros for the top level.
        labels: lowest cluster of each row.
        old: how often each row was selected before.
        rng: decides between equals.

    Returns:
        One int64 array per level, lowest first.
    """
    fills: list[Fill] = []
    budget = np.array([n])
    for capacity, parent in zip(reversed(capacities), reversed(parents), strict=True):
        fills.insert(0, water_fill(budget, capacity, parent))
        budget = fills[0].base
    gains = [_leaf_gain(fills[0], labels, old)]
    for fill, parent in zip(fills[:-1], parents[:-1], strict=True):
        wanting = np.bincount(parent[gains[-1] & fill.is_open], minlength=len(fill.remainder))
        gains.append(wanting > fill.remainder)
    quotas: list[Int[np.ndarray, " k"]] = []
    more = np.zeros(1, np.int64)  # whether the parent has base + 1
    for fill, parent, gain in zip(reversed(fills), reversed(parents), reversed(gains), strict=True):
        count = fill.remainder + more
        candidates = np.flatnonzero(fill.is_open & (count[parent] > 0))
        order = rng.permutation(len(candidates))
        order = order[np.argsort(~gain[candidates][order], kind="stable")]
        more = np.zeros(len(fill.base), np.int64)
        more[candidates[first_of_group(parent[candidates], order, count)]] = 1
        quotas.insert(0, fill.base + more)
    return quotas


def _leaf_gain(fill: Fill, labels: Int[np.ndarray, " n"], old: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " k"]:
    """Whether a lowest cluster with a quota of one more would keep one more of the old selection.

    With quota u of s rows each row is drawn u // s times and u % s rows once more: old rows drawn more than u // s
    times use these up, and one more is kept if there are more of them.
    """
    copies, extra = np.divmod(fill.base, np.maximum(np.bincount(labels, minlength=len(fill.base)), 1))
    return np.bincount(labels[old > copies[labels]], minlength=len(fill.base)) > extra
