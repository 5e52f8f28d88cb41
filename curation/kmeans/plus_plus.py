"""Greedy k-means++ (Arthur and Vassilvitskii 2007), drawn in batches with rejection: exact law, few passes.

Each new center is the best of m = 2 + int(ln k) points drawn with probability proportional to D^2, the squared
distance to the nearest center so far; the best leaves the smallest sum of D^2. Drawn one center at a time that is k
skinny passes over the data. Here a batch of candidates is drawn from the present law, and its distances to all points
are one matrix product. As centers are added the law changes, and a candidate drawn under the old one is kept with
probability D^2 now / D^2 then, which makes the kept ones independent draws of the new law.

Rows are rounded to a grid of integers so small that every product sum is exact, see ``grids``: the choice does not
depend on the order in which a matrix product adds, that is on tiles, threads or the machine.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.kmeans.grids import Distances, grids
from strata.curation.kmeans.points import Points

_BATCH = 256


def plus_plus(
    points: Points, k: int, rng: np.random.Generator, weight: Float[np.ndarray, " n"] | None = None
) -> Int[np.ndarray, " k"]:
    """Rows of k centers by greedy k-means++, in the order they were chosen, all different. k must not exceed n.

    Where fewer than k distinct points have weight, the rest are drawn uniformly from the other rows.
    """
    start = None if weight is None else weight / weight.sum()
    chosen = [int(rng.choice(points.total, p=start))]
    for grid in grids(points, k, weight):
        _choose(grid, chosen, k, rng)
        if len(chosen) == k:
            break
    return _fill(chosen, k, points.total, rng)


def _choose(grid: Distances, chosen: list[int], k: int, rng: np.random.Generator) -> None:
    """Add centers until there are k, or the grid is too coarse for more."""
    points, tries = grid.points, 2 + int(math.log(k))
    grid.start(chosen)
    largest = max(2 * tries, min(_BATCH, grid.batch))
    while len(chosen) < k:
        cumulative = np.cumsum(grid.block_sums())
        if not cumulative[-1] > grid.noise:
            break
        batch = min(largest, tries * max(2, len(chosen)), tries * (k - len(chosen) + 1) * 2)
        candidates = _drawn(points, grid.closest, cumulative, rng.random(batch) * cumulative[-1])
        at_candidates, keep = grid.at(candidates), rng.random(batch)
        candidates, at_candidates = candidates[at_candidates > 0], at_candidates[at_candidates > 0]
        between = grid.load(candidates)
        _consume(grid, candidates, at_candidates, keep[: len(candidates)], between, tries, k, chosen)


def _drawn(
    points: Points,
    closest: NDArray[np.float64] | NDArray[np.int32],
    cumulative: Float[np.ndarray, " b"],
    draws: Float[np.ndarray, " r"],
) -> Int[np.ndarray, " r"]:
    """Rows of all with these shares of the cumulative sum: the block first, then the row inside it by its owner."""
    block = np.minimum(np.searchsorted(cumulative, draws, side="right"), len(cumulative) - 1)
    left = draws - np.where(block > 0, cumulative[block - 1], 0.0)
    rows = np.zeros(len(draws), np.int64)
    for number, (start, stop) in enumerate(points.blocks(), points.first_block):
        here = np.flatnonzero(block == number)
        if len(here):
            inside = np.searchsorted(np.cumsum(closest[start:stop]), left[here], side="right")
            rows[here] = points.first + np.minimum(start + inside, stop - 1)
    return points.group.sum(rows)


def _consume(
    grid: Distances,
    candidates: NDArray[np.int64],
    at_candidates: NDArray[np.float64],
    keep: NDArray[np.float64],
    between: NDArray[np.float64],
    tries: int,
    k: int,
    chosen: list[int],
) -> None:
    """Add centers from a batch until it runs short."""
    drawn_at = keep * at_candidates
    position = 0
    while len(chosen) < k:
        accepted = np.flatnonzero(drawn_at[position:] < at_candidates[position:])[:tries] + position
        # The first draws of a batch were made under the present law: a full set is there even if the batch is small.
        if (len(accepted) < tries and position > 0) or len(accepted) == 0:
            break
        best = int(accepted[grid.potentials(accepted).argmin()])
        grid.add(best)
        at_candidates = np.minimum(at_candidates, between[best])
        chosen.append(int(candidates[best]))
        position = int(accepted[-1]) + 1


def _fill(chosen: list[int], k: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(chosen) < k:
        others = np.delete(np.arange(n), chosen)
        chosen = chosen + rng.choice(others, k - len(chosen), replace=False).tolist()
    return np.array(chosen, np.int64)
