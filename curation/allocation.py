"""Water-filling: a budget shared among siblings as evenly as their capacities allow (paper section 3.3).

All groups of siblings of a level are handled at once, by one sort and cumulative sums.
"""

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray


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
    budget, capacity = np.asarray(budget, np.int64), np.asarray(capacity, np.int64)
    order = np.lexsort((capacity, parent))
    size = np.bincount(parent, minlength=len(budget))
    start = np.cumsum(size) - size
    own, group = capacity[order], np.asarray(parent)[order]
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
    is_open = position >= full[group]
    quota = np.where(is_open, level[group], own)
    quota[_random_members(is_open, group, remainder, rng)] += 1
    result = np.empty_like(quota)
    result[order] = quota
    return result


def _random_members(
    eligible: NDArray[np.bool_], group: NDArray[np.int64], count: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of ``count[g]`` different eligible members of each group g, uniformly at random."""
    candidates = np.flatnonzero(eligible & (count[group] > 0))
    return candidates[first_of_group(group[candidates], rng.permutation(len(candidates)), count)]


def first_of_group(
    group: Int[np.ndarray, " m"], key: Int[np.ndarray, " m"], count: Int[np.ndarray, " g"]
) -> Int[np.ndarray, " s"]:
    """Positions of the ``count[g]`` members of each group g with the smallest keys.

    Keys are not negative and differ inside a group.
    """
    if len(group) == 0:
        return np.empty(0, np.int64)
    # One sort of group * width + key: no ties, so the order does not depend on the kind of sort.
    order = np.argsort(group.astype(np.int64) * (int(key.max()) + 1) + key)
    size = np.bincount(group, minlength=len(count))
    rank = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return order[rank < np.repeat(np.minimum(count, size), size)]
