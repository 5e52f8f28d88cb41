"""DBSCAN as in the paper's Fig. 3: one point per cluster, its mean; noise belongs to none."""

import numpy as np
from jaxtyping import Float

from strata.curation.codebooks.base import Codebook
from strata.curation.errors import ConfigError, DataError


class DBSCANCodebook:
    """Cluster means of scikit-learn's DBSCAN.

    The radius is read off the curve of distances to the ``min_samples``-th neighbor (the point itself counts as the
    first, as in scikit-learn): the ``eps_rank``-th largest of them. The paper says "the 1000th sorted 5-NN distance";
    ascending, that leaves three rows of four as noise and gives KL 1.8 instead of the .56 and .85 it printed.

    Args:
        min_samples: neighbors within the radius, itself included, that make a core point.
        eps_rank: how many points have a longer distance.
    """

    def __init__(self, min_samples: int = 5, eps_rank: int = 1000) -> None:
        for name, value in (("min_samples", min_samples), ("eps_rank", eps_rank)):
            if value < 1:
                raise ConfigError(f"codebook.{name}", f"{value}", "give 1 or more")
        self.min_samples, self.eps_rank = min_samples, eps_rank

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """``random_state`` has no effect: the method draws nothing.

        Raises:
            ConfigError: not enough rows for the settings.
            DataError: everything is noise.
        """
        from sklearn.cluster import DBSCAN
        from sklearn.neighbors import NearestNeighbors

        if len(X) < max(self.min_samples, self.eps_rank):
            raise ConfigError("codebook.eps_rank", f"{self.eps_rank} of {len(X)} rows", "use fewer")
        distances, _ = NearestNeighbors(n_neighbors=self.min_samples).fit(X).kneighbors(X)
        eps = float(np.sort(distances[:, -1])[-self.eps_rank])
        labels = DBSCAN(eps=eps, min_samples=self.min_samples).fit_predict(X).astype(np.int32)
        if labels.max() < 0:
            raise DataError(f"DBSCAN finds no cluster with eps {eps:.4g}; lower codebook.eps_rank or min_samples")
        return Codebook(cluster_means(X, labels), labels)


def cluster_means(X: Float[np.ndarray, "n d"], labels: np.ndarray) -> Float[np.ndarray, "k d"]:
    """Mean of each cluster; rows of label -1 are left out. Every label up to the largest must occur."""
    rows, kept = X[labels >= 0], labels[labels >= 0]
    counts = np.bincount(kept)
    return np.stack([np.bincount(kept, axis) for axis in rows.T], axis=1) / counts[:, None]
