"""Which points a resampling step keeps: a few per cluster, so that they follow the law of the centroids.

Paper section 3.3.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

ResampleBy = Literal["closest", "random"]


def resampled_rows(
    labels: Int[np.ndarray, " n"],
    distances: Float[np.ndarray, " n"],
    n_clusters: int,
    size: int,
    by: ResampleBy,
    at_least: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " m"]:
    """Rows of at most ``size`` members of each cluster, ascending.

    Args:
        labels: cluster of each point, in [0, n_clusters).
        distances: of each point to its centroid; the lowest row comes first on equal ones.
        n_clusters: number of clusters, some perhaps empty.
        size: most members kept of each.
        by: the "closest" to the centroid, or "random" ones.
        at_least: clusters that will be made of the rows. Where small or empty clusters leave fewer rows, ``size`` is
            raised for this step to the smallest value that leaves enough.
        rng: draws for "random".
    """
    key = distances if by == "closest" else rng.random(len(labels))
    order = np.lexsort((key, labels))
    counts = np.bincount(labels, minlength=n_clusters)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.cumsum(np.bincount(rank))  # kept[r]: rows of rank 0 to r
    size = max(size, int(np.searchsorted(kept, min(at_least, len(labels)))) + 1)
    return np.sort(order[rank < size])
