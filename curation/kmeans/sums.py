"""Sums of the points of each cluster, the same bytes for any number of threads, chunks or shards of whole blocks."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.points import STEP, Points


@dataclass
class ClusterSums:
    """What one pass over the points leaves: sums of the centered rows and total weight of each cluster."""

    totals: Float[np.ndarray, "k d"]
    weights: Float[np.ndarray, " k"]

    @classmethod
    def zeros(cls, k: int, d: int) -> "ClusterSums":
        """Nothing added yet."""
        return cls(np.zeros((k, d)), np.zeros(k))

    def add_block(
        self,
        rows: Float[Tensor, "m d"],
        labels: Int[np.ndarray, " m"],
        weight: Float[np.ndarray, " m"] | None = None,
    ) -> None:
        """Add one block of centered rows. A block is summed on its own first, in row order, in float64."""
        k = len(self.weights)
        if k > len(labels):  # few clusters occur in the block: a dense [k, d] per block would cost more than the rows
            used, labels = np.unique(labels, return_inverse=True)
        else:
            used = np.arange(k)
        self.totals[used] += _segment_sums(rows, labels, weight, len(used))
        self.weights[used] += np.bincount(labels, weight, minlength=len(used))

    def means(self, points: Points, previous: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
        """Centroids in the space and dtype of the rows; an empty cluster keeps its previous one.

        Cosine: means are normalized; one whose points cancel out keeps its previous direction.
        """
        full = self.weights > 0
        means = self.totals / np.where(full, self.weights, 1)[:, None] / points.scale + points.center
        if points.metric == "cosine":
            norms = np.sqrt(np.square(means).sum(1))
            full &= norms > 1e-12
            means /= np.where(full, norms, 1)[:, None]
        centroids: NDArray[np.floating] = np.where(full[:, None], means.astype(points.numpy_dtype), previous)
        return centroids

    def inertia(self, points: Points, centroids: Float[np.ndarray, "k d"], total_square: float) -> float:
        """Sum of squared distances to the centroids, sum |x|^2 - 2 sum c.S + sum n |c|^2: no pass over the points."""
        c = points.center_values(centroids)
        value = total_square - 2 * (c * self.totals).sum() + (np.square(c).sum(1) * self.weights).sum()
        return max(0.0, float(value)) / points.scale**2


def _segment_sums(
    rows: Float[Tensor, "m d"], labels: NDArray[np.int64], weight: NDArray[np.float64] | None, k: int
) -> NDArray[np.float64]:
    index = torch.from_numpy(labels.astype(np.int64)).to(rows.device)
    factor = None if weight is None else torch.from_numpy(weight).to(rows.device)[:, None]
    if rows.device.type == "cpu":
        sums = torch.zeros(k, rows.shape[1], dtype=torch.float64)
        for low in range(0, len(rows), STEP):
            part = slice(low, low + STEP)
            values = rows[part].double() if factor is None else rows[part] * factor[part]
            sums.index_add_(0, index[part], values)  # adds in row order, whatever the threads
        return sums.numpy()
    order = torch.argsort(index, stable=True)  # on a GPU index_add_ adds in any order; sorted segments do not
    values = rows.double() if factor is None else rows * factor
    lengths = torch.bincount(index, minlength=k)
    return torch.segment_reduce(values[order], "sum", lengths=lengths).cpu().numpy()


def total_square(points: Points, weight: Float[np.ndarray, " n"] | None = None) -> float:
    """Sum of the squared norms of the centered points (times their weights), float64, block by block."""
    total = 0.0
    for start, stop in points.blocks():
        squares = points.centered(start, stop).double().square().cpu().numpy().sum(1)
        total += float((squares if weight is None else squares * weight[start:stop]).sum())
    return total
