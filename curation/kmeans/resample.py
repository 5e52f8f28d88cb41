"""Which points a resampling step keeps: a few per cluster, so that they follow the law of the centroids.

Paper section 3.3.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from strata.curation.kmeans.points import Points

ResampleBy = Literal["closest", "random"]


def resampled_rows(
    points: Points,
    labels: Int[np.ndarray, " n"],
    distances: Float[np.ndarray, " n"],
    n_clusters: int,
    size: int,
    by: ResampleBy,
    at_least: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " m"]:
    """Rows (of all processes) of at most ``size`` members of each cluster, ascending; the same on every process.

    Args:
        points: whose rows they are. Each process offers its own best members of each cluster.
        labels: cluster of each row of this process, in [0, n_clusters).
        distances: of each row to its centroid; the lowest row comes first on equal ones.
        n_clusters: number of clusters, some perhaps empty.
        size: most members kept of each.
        by: the "closest" to the centroid, or "random" ones.
        at_least: clusters that will be made of the rows. Where small or empty clusters leave fewer rows, ``size`` is
            raised for this step to the smallest value that leaves enough.
        rng: draws for "random"; one number per row of all processes, of which each makes its own.
    """
    if by == "random":
        rng.bit_generator.advance(points.first)  # type: ignore[attr-defined]
    key = distances if by == "closest" else rng.random(points.n)
    counts = points.counts(labels, n_clusters)
    ranks = np.zeros(int(counts.max()) + 1, np.int64)  # clusters that have a member of rank 0, 1, ...
    ranks[: len(ranks)] = len(counts) - np.cumsum(np.bincount(counts, minlength=len(ranks)))
    kept = np.cumsum(ranks)  # kept[r]: rows of rank 0 to r
    size = max(size, int(np.searchsorted(kept, min(at_least, points.total))) + 1)
    best = _first_of_each(key, labels, n_clusters, size)
    group = points.group
    rows, key, labels = (
        group.concatenated(values[best]) for values in (np.arange(points.n) + points.first, key, labels)
    )
    return np.sort(rows[_first_of_each(key, labels, n_clusters, size)])


def _first_of_each(
    key: Float[np.ndarray, " m"], labels: Int[np.ndarray, " m"], k: int, size: int
) -> Int[np.ndarray, " s"]:
    """The ``size`` items of each label with the smallest keys, the first on equal ones; ascending."""
    order = np.lexsort((key, labels))
    counts = np.bincount(labels, minlength=k)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < size])
