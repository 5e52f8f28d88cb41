"""Water-filling: a budget shared among siblings as evenly as their capacities allow (paper section 3.3).

All groups of siblings of a level are handled at once, by sorts and cumulative sums: no Python call per node.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csc_array


class Fill(NamedTuple):
    """What water-filling settles without drawing; the remainder of each group goes to different open members."""

    base: Int[np.ndarray, " m"]  # min(c, capacity) for the largest whole c that the group's budget allows
    is_open: Bool[np.ndarray, " m"]  # capacity above c: one more is possible
    remainder: Int[np.ndarray, " g"]  # how many are left over, fewer than the open members of the group
    order: Int[np.ndarray, " m"]  # members by group, smallest capacity first, then lowest


def allocate(
    budget: Int[np.ndarray, " g"],
    capacity: Int[np.ndarray, " m"],
    parent: Int[np.ndarray, " m"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " m"]:
    """Quota of each node: its parent's budget shared evenly among the children, none above its capacity.

    Among the children of one parent the quotas are min(c, capacity) for the largest whole c that the budget
    allows; what is left, fewer than the children that still have room, goes as one more each to different ones
    of these, drawn uniformly.

    Args:
        budget: of each parent, at most the sum of its children's capacities.
        capacity: of each node, not negative.
        parent: of each node, in [0, g).
        rng: draws who gets the remainder.

    Returns:
        int64 [m]; the quotas of the children of each parent add up to its budget.

    Raises:
        ValueError: a budget is negative or more than the children can hold.
    """
    quota, is_open, remainder, order = water_fill(budget, capacity, parent)
    candidates = order[is_open[order] & (remainder[parent[order]] > 0)]
    quota[candidates[first_of_group(parent[candidates], shuffled(len(candidates), rng), remainder)]] += 1
    return quota


def water_fill(budget: Int[np.ndarray, " g"], capacity: Int[np.ndarray, " m"], parent: Int[np.ndarray, " m"]) -> Fill:
    """The part of ``allocate`` that nothing random decides; same arguments and errors."""
    budget, capacity = np.asarray(budget, np.int64), np.asarray(capacity, np.int64)
    order, offsets = grouped(parent, np.argsort(capacity, kind="stable"), len(budget))
    start, size = offsets[:-1], np.diff(offsets)
    group = np.asarray(parent)[order]
    own = np.minimum(capacity[order], budget[group] + 1)  # more than the budget is as good; products stay small
    total = np.concatenate([[0], np.cumsum(own)])
    if (budget < 0).any() or (budget > total[start + size] - total[start]).any():
        raise ValueError("a budget is negative or more than the capacities of its children")
    # Sorted by capacity, raising the level to that of a node fills it and all before it, and costs
    # (the sum of those before) + (number from it on) x (its capacity). Nodes whose level is affordable are full.
    position = np.arange(len(own)) - start[group]
    cost = total[:-1] - total[start[group]] + (size[group] - position) * own
    full = np.bincount(group, cost <= budget[group], minlength=len(budget)).astype(np.int64)
    left = budget - (total[start + full] - total[start])
    open_nodes = np.maximum(size - full, 1)
    level, remainder = left // open_nodes, left % open_nodes
    base, is_open = np.empty_like(own), np.empty(len(own), np.bool_)
    open_in_order = position >= full[group]
    base[order], is_open[order] = np.where(open_in_order, level[group], own), open_in_order
    return Fill(base, is_open, remainder, order)


def shuffled(m: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """0 to m - 1 in the order of random places; every result of a seed hangs on how this is drawn."""
    order = np.empty(m, np.int64)
    order[rng.permutation(m)] = np.arange(m)
    return order


def first_of_group(
    group: Int[np.ndarray, " m"], order: Int[np.ndarray, " m"], count: Int[np.ndarray, " g"]
) -> Int[np.ndarray, " s"]:
    """Positions of the first ``count[g]`` members of each group g, all if it has fewer, by group.

    Args:
        group: of each position, in [0, g).
        order: all positions, in the order in which members are taken.
        count: how many of each group.
    """
    by_group, offsets = grouped(group, order, len(count))
    taken = np.minimum(count, np.diff(offsets))
    ends = np.cumsum(taken)
    rank = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - taken, taken)
    return by_group[np.repeat(offsets[:-1], taken) + rank]


def grouped(
    group: Int[np.ndarray, " m"], order: Int[np.ndarray, " m"], n_groups: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " g1"]]:
    """Positions by group, inside each group in the given order; group g holds [offsets[g], offsets[g + 1]).

    A counting sort: linear, where numpy would compare. SciPy's is the one from columns (one entry each) to rows.
    """
    m = len(order)
    one_a_column = (np.ones(m, np.int8), np.asarray(group)[order], np.arange(m + 1))
    rows = csc_array(one_a_column, shape=(n_groups, m)).tocsr()
    return order[rows.indices], rows.indptr.astype(np.int64)
