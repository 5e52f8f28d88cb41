"""Greedy k-means++ (Arthur and Vassilvitskii 2007), drawn in batches with rejection: exact law, few passes.

Each new center is the best of m = 2 + int(ln k) points drawn with probability proportional to D^2, the squared
distance to the nearest center so far; the best leaves the smallest sum of D^2. Drawn one center at a time that is k
skinny passes over the data. Here a batch of candidates is drawn from the present law, and its distances to all points
are one matrix product. As centers are added the law changes, and a candidate drawn under the old one is kept with
probability D^2 now / D^2 then, which makes the kept ones independent draws of the new law.

Rows are rounded to a grid of integers so small that every product sum is an exact integer in float64. The choice
therefore does not depend on the order in which a matrix product adds, that is on tiles, threads or the machine.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.distance import full_precision
from strata.curation.kmeans.points import Points

_BATCH_ELEMENTS = 1 << 24  # of the candidates x points matrix
_BATCH = 256


def plus_plus(
    points: Points, k: int, rng: np.random.Generator, weight: Float[np.ndarray, " n"] | None = None
) -> Int[np.ndarray, " k"]:
    """Rows of k centers by greedy k-means++, in the order they were chosen, all different. k must not exceed n.

    Where fewer than k distinct points have weight, the rest are drawn uniformly from the other rows.
    """
    distances = _GridDistances(points)
    start = None if weight is None else weight / weight.sum()
    chosen = [int(rng.choice(points.total, p=start))]
    closest = distances.to_rows(np.array(chosen))[0]
    if weight is not None:
        closest *= weight
    tries = 2 + int(math.log(k))
    largest = max(2 * tries, min(_BATCH, _BATCH_ELEMENTS // points.total))
    while len(chosen) < k:
        cumulative = np.cumsum(_block_sums(points, closest[None])[:, 0])
        if not cumulative[-1] > 0:
            break
        batch = min(largest, tries * max(2, len(chosen)), tries * (k - len(chosen) + 1) * 2)
        candidates = _drawn(points, closest, cumulative, rng.random(batch) * cumulative[-1])
        at_candidates, keep = _values_at(points, closest[None], candidates)[0], rng.random(batch)
        candidates, at_candidates = candidates[at_candidates > 0], at_candidates[at_candidates > 0]
        to_all = distances.to_rows(candidates)
        if weight is not None:
            to_all *= weight
        closest = _consume(
            points, candidates, at_candidates, keep[: len(candidates)], to_all, closest, tries, k, chosen
        )
    return _fill(chosen, k, points.total, rng)


def _block_sums(points: Points, values: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "b r"]:
    """Sums of each of ``r`` numbers per row over the blocks of all processes."""
    own = [values[:, start:stop].sum(1) for start, stop in points.blocks()]
    sums: NDArray[np.float64] = points.group.concatenated(
        np.array(own, np.float64).reshape(-1, len(values)), points.group.blocks_of_each(points.total)
    )
    return sums


def _drawn(
    points: Points,
    closest: Float[np.ndarray, " n"],
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


def _values_at(
    points: Points, values: Float[np.ndarray, "m n"], rows: Int[np.ndarray, " r"]
) -> Float[np.ndarray, "m r"]:
    """Columns of the given rows of all, from the processes that have them."""
    local = rows - points.first
    if points.group.size == 1:
        taken: NDArray[np.float64] = values[:, local]
        return taken
    own = (local >= 0) & (local < points.n)
    out = np.zeros((len(values), len(rows)))
    out[:, own] = values[:, local[own]]
    return points.group.sum(out.view(np.int64)).view(np.float64)  # as bits: all others are zero


def _consume(
    points: Points,
    candidates: NDArray[np.int64],
    at_candidates: NDArray[np.float64],
    keep: NDArray[np.float64],
    to_all: NDArray[np.float64],
    closest: NDArray[np.float64],
    tries: int,
    k: int,
    chosen: list[int],
) -> NDArray[np.float64]:
    """Add centers from a batch until it runs short; returns the new closest distances."""
    drawn_at, between = keep * at_candidates, _values_at(points, to_all, candidates)
    position = 0
    while len(chosen) < k:
        accepted = np.flatnonzero(drawn_at[position:] < at_candidates[position:])[:tries] + position
        # The first draws of a batch were made under the present law: a full set is there even if the batch is small.
        if (len(accepted) < tries and position > 0) or len(accepted) == 0:
            break
        nearer = np.minimum(closest, to_all[accepted])
        best = int(_block_sums(points, nearer).sum(0).argmin())
        closest = nearer[best]
        at_candidates = np.minimum(at_candidates, between[accepted[best]])
        chosen.append(int(candidates[accepted[best]]))
        position = int(accepted[-1]) + 1
    return closest


def _fill(chosen: list[int], k: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(chosen) < k:
        others = np.delete(np.arange(n), chosen)
        chosen = chosen + rng.choice(others, k - len(chosen), replace=False).tolist()
    return np.array(chosen, np.int64)


class _GridDistances:
    """Squared distances between points rounded to integers, exact in float64."""

    def __init__(self, points: Points) -> None:
        # Values lie in [-1, 1], so with b bits |x|^2 + |c|^2 - 2 x.c is at most 4 d 4^b, which must stay below 2^53.
        self.points, self.unit = points, 2.0 ** ((51 - math.ceil(math.log2(points.d))) // 2)
        self.squares = [self._grid(block).square_().sum(1) for block in self._blocks()]

    def _blocks(self) -> list[Tensor]:
        return [self.points.centered(start, stop) for start, stop in self.points.blocks()]

    def _grid(self, values: Tensor) -> Float[Tensor, "m d"]:
        return (values.double() * self.unit).round_()

    def to_rows(self, rows: NDArray[np.int64]) -> Float[np.ndarray, "r n"]:
        """Distances of all points to the given rows."""
        centers = self._grid(self.points.to_device(self.points.center_values(self.points.rows_anywhere(rows))))
        squares = centers.square().sum(1)[:, None]
        out = np.empty((len(rows), self.points.n))
        with full_precision():
            for (start, stop), own in zip(self.points.blocks(), self.squares, strict=True):
                block = self._grid(self.points.centered(start, stop))
                distance = torch.addmm(own, centers, block.T, alpha=-2).add_(squares)
                out[:, start:stop] = distance.cpu().numpy()
        return out
