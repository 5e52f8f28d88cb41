"""Agglomerative clustering as in the paper's Fig. 3: one point per cluster, its mean."""

import numpy as np
from jaxtyping import Float

from strata.curation.codebooks.base import Codebook
from strata.curation.codebooks.dbscan import cluster_means
from strata.curation.errors import ConfigError


class AgglomerativeCodebook:
    """Cluster means of scikit-learn's bottom-up clustering with Ward's linkage (its default). O(n^2) memory."""

    def __init__(self, n_clusters: int) -> None:
        self.n_clusters = n_clusters

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """``random_state`` has no effect: the method draws nothing.

        Raises:
            ConfigError: more clusters than rows.
        """
        from sklearn.cluster import AgglomerativeClustering

        if not 1 <= self.n_clusters <= len(X):
            raise ConfigError("codebook.n_clusters", f"{self.n_clusters} for {len(X)} rows", "use at most the rows")
        labels = AgglomerativeClustering(self.n_clusters).fit_predict(X).astype(np.int32)
        return Codebook(cluster_means(X, labels), labels)
