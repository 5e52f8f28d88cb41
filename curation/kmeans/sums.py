"""Sums of the points of each cluster as whole numbers: exact, so the order in which rows are added does not matter.

Centered values lie in [-1, 1]. Times their weight they are rounded to a grid, as fine as 63 bits allow without a sum of
all rows overflowing (2^-44 at 200,000 rows, 2^-32 at a billion; float32 centroids are known to 2^-24). Integer sums are
the same for any order of rows, blocks, threads or processes, and a row that changes its cluster is taken from one sum
and added to the other without a trace: an iteration costs only what moves.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.share import Share


@dataclass
class ClusterSums:
    """Sums of the centered rows and of the weights of each cluster, on a grid; processes may add theirs up.

    Where centroids are shared out the sums of rows are those of this process's part; the weights are of all clusters.
    """

    grid: float  # whole numbers per unit
    totals: Int[np.ndarray, "s d"]  # int64, times ``grid``
    masses: Int[np.ndarray, " k"]  # int64, times ``grid`` if weighted, else counts
    weighted: bool
    share: Share

    @classmethod
    def zeros(cls, share: Share, d: int, n: int, weight: Float[np.ndarray, " n"] | None = None) -> Self:
        """Nothing added yet; ``n`` rows will be at most. Weights are scaled so that the largest is at most 1."""
        bits = 62 - math.ceil(math.log2(n + 1))
        own = share.own.stop - share.own.start
        return cls(2.0**bits, np.zeros((own, d), np.int64), np.zeros(share.k, np.int64), weight is not None, share)

    @property
    def weights(self) -> Float[np.ndarray, " k"]:
        """Number of rows of each cluster, or their (scaled) weight."""
        return self.masses / (self.grid if self.weighted else 1.0)

    def add(
        self,
        rows: Float[Tensor, "m d"],
        labels: Int[np.ndarray, " m"],
        weight: Float[np.ndarray, " m"] | None = None,
        *,
        sign: int = 1,
    ) -> None:
        """Add rows to the sums of their labels, or take them away (``sign=-1``)."""
        labels = labels.astype(np.int64)
        if self.weighted:
            assert weight is not None
            np.add.at(self.masses, labels, sign * np.rint(weight * self.grid).astype(np.int64))
        else:
            self.masses += sign * np.bincount(labels, minlength=len(self.masses))
        if rows.device.type != "cpu":
            self._add_on_gpu(rows, labels, weight, sign)
            return
        values, factor = rows.numpy(), np.ones(1) if weight is None else weight
        d = rows.shape[1]
        width = d if torch.get_num_threads() == 1 or rows.numel() < 1 << 20 else -(-d // torch.get_num_threads())
        for_each(
            lambda left: _add_rows(self.totals, values, labels, factor, sign * self.grid, left, min(left + width, d)),
            range(0, d, width),
        )

    def _add_on_gpu(self, rows: Tensor, labels: NDArray[np.int64], weight: Any, sign: int) -> None:
        index = torch.from_numpy(labels).to(rows.device)
        values = rows.double() * self.grid
        if weight is not None:
            values *= torch.from_numpy(weight).to(rows.device)[:, None]
        sums = torch.zeros(self.totals.shape, dtype=torch.int64, device=rows.device)
        sums.index_add_(0, index, values.round_().long())  # in any order: whole numbers
        self.totals += sign * sums.cpu().numpy()

    def of_all(self, points: Points) -> "ClusterSums":
        """The sums over all processes."""
        if points.group.size == 1 or not self.share.is_whole:
            return self
        return replace(self, totals=points.group.sum(self.totals), masses=points.group.sum(self.masses))

    def means(self, points: Points, previous: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
        """Centroids in the space and dtype of the rows; an empty cluster keeps its previous one.

        Cosine: means are normalized; one whose points cancel out keeps its previous direction.
        """
        full = self.masses[self.share.own] > 0
        weights = np.where(full, self.weights[self.share.own], 1)
        means = self.totals / self.grid / weights[:, None] / points.scale + points.center
        if points.metric == "cosine":
            norms = np.sqrt(np.square(means).sum(1))
            full &= norms > 1e-12
            means /= np.where(full, norms, 1)[:, None]
        centroids: NDArray[np.floating] = np.where(full[:, None], means.astype(points.numpy_dtype), previous)
        return centroids

    def inertia(self, points: Points, centroids: Float[np.ndarray, "k d"], total_square: float) -> float:
        """Sum of squared distances to the centroids, sum |x|^2 - 2 sum c.S + sum n |c|^2: no pass over the points."""
        c = points.center_values(np.asarray(centroids, np.float64))
        # One number per cluster first: the sum over them is then the same wherever the clusters lie.
        own = np.square(c).sum(1) * self.weights[self.share.own] - 2 * (c * (self.totals / self.grid)).sum(1)
        return max(0.0, float(total_square + self.share.gathered(own).sum())) / points.scale**2


@numba.njit(nogil=True, cache=True)
def _add_rows(totals: Any, values: Any, labels: Any, factor: Any, grid: float, left: int, right: int) -> None:
    for i in range(len(values)):
        weight = grid * (factor[i] if len(factor) > 1 else factor[0])
        total, row = totals[labels[i], left:right], values[i, left:right]
        for f in range(len(row)):
            total[f] += np.int64(np.rint(np.float64(row[f]) * weight))


def total_square(points: Points, weight: Float[np.ndarray, " n"] | None = None) -> float:
    """Sum of the squared norms of the centered points (times their weights), float64, block by block."""
    parts = []
    for start, stop in points.blocks():
        squares = _squares(points.centered(start, stop).cpu().numpy())
        parts.append((squares if weight is None else squares * weight[start:stop]).sum())
    total = 0.0
    for part in points.group.concatenated(np.array(parts, np.float64)).tolist():
        total += part
    return total


@numba.njit(nogil=True, cache=True)
def _squares(rows: Any) -> Any:
    out = np.empty(len(rows))
    for i in range(len(rows)):
        lanes = np.zeros(8)  # added in this order everywhere
        for f in range(rows.shape[1]):
            value = np.float64(rows[i, f])
            lanes[f % 8] += value * value
        out[i] = lanes.sum()
    return out
