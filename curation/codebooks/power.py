"""k-means with the distortion |x - c|^s as a codebook (paper section 3.2)."""

import numpy as np
from jaxtyping import Float

from strata.curation.codebooks.base import Codebook
from strata.curation.errors import ConfigError
from strata.curation.kmeans.power import power_kmeans


class PowerKMeansCodebook:
    """Centroids of ``strata.curation.kmeans.power.power_kmeans``."""

    def __init__(self, n_clusters: int, power: float, n_iter: int = 50) -> None:
        if n_clusters < 1 or n_iter < 1 or not power >= 2:
            problem = f"n_clusters {n_clusters}, power {power}, n_iter {n_iter}"
            raise ConfigError("codebook", problem, "use 1 or more clusters and iterations and a power of 2 or more")
        self.n_clusters, self.power, self.n_iter = n_clusters, power, n_iter

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """Raises what ``power_kmeans`` does."""
        found = power_kmeans(X, self.n_clusters, power=self.power, n_iter=self.n_iter, random_state=random_state)
        return Codebook(found.centroids, found.labels)
