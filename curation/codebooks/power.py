"""k-means with the distortion |x - c|^s as a codebook (paper section 3.2)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from strata.curation.codebooks.base import Codebook
from strata.curation.errors import ConfigError
from strata.curation.hierarchical_kmeans import check_levels
from strata.curation.kmeans.power import power_kmeans


class PowerKMeansCodebook:
    """Centroids of ``strata.curation.kmeans.power.power_kmeans``.

    Args:
        n_clusters: k, or one of each level: a level clusters the centroids of the one below (without resampling).
        power: s.
        n_iter: most updates of each level.
    """

    def __init__(self, n_clusters: int | Sequence[int], power: float = 2.0, n_iter: int = 50) -> None:
        self.n_clusters = [n_clusters] if isinstance(n_clusters, int) else list(n_clusters)
        if n_iter < 1 or not power >= 2:
            raise ConfigError("codebook", f"power {power}, n_iter {n_iter}", "use a power of 2 or more, 1 iteration up")
        self.power, self.n_iter = power, n_iter

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """Raises what ``power_kmeans`` does."""
        check_levels(self.n_clusters, len(X))
        points, labels = X, np.arange(len(X))
        for level, k in enumerate(self.n_clusters):
            seed = np.random.SeedSequence(random_state, spawn_key=(level,))
            found = power_kmeans(points, k, power=self.power, n_iter=self.n_iter, random_state=seed)
            points, labels = found.centroids, found.labels[labels]
        return Codebook(points, labels)
