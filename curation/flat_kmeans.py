"""Flat k-means as a scikit-learn estimator, for pipelines and grid searches over arrays in memory."""

from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from strata.curation.errors import StrataError
from strata.curation.kmeans.distance import assign
from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.points import DTypeName, Metric, Points


class FlatKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """One level of ``HierarchicalKMeans``: see ``strata.curation.kmeans.flat.kmeans`` for the parameters.

    Rows of float16 and integers are computed as float64, as scikit-learn does.

    Attributes:
        cluster_centers_: [k, d]. labels_: nearest center of each row, int32 [n]. inertia_: weighted sum of squared
            distances. n_iter_: updates of the centers. n_features_in_: d.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | NDArray[np.floating] = "auto",
        n_init: int = 1,
        n_iter: int = 50,
        tol: float = 0.0,
        metric: Metric = "euclidean",
        algorithm: str = "auto",
        empty: Literal["keep", "repair"] = "keep",
        dtype: DTypeName = "auto",
        device: str = "auto",
        random_state: int | None = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.n_iter = n_iter
        self.tol = tol
        self.metric = metric
        self.algorithm = algorithm
        self.empty = empty
        self.dtype = dtype
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Cluster the rows of ``X`` [n, d].

        Raises:
            ValueError: as scikit-learn has it: X or a parameter is out of range.
        """
        rows = validate_data(self, X, dtype=(np.float64, np.float32))
        if len(rows) < self.n_clusters:
            raise ValueError(f"n_samples={len(rows)} should be >= n_clusters={self.n_clusters}")
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, rows, dtype=np.float64)
        options = {name: value for name, value in self.get_params().items() if name != "n_clusters"}
        try:
            result = kmeans(rows, self.n_clusters, sample_weight=weight, **options)
        except StrataError as error:
            raise ValueError(str(error)) from error
        self.cluster_centers_: Float[np.ndarray, "k d"] = result.centroids
        self.labels_: Int[np.ndarray, " n"] = result.labels
        self.inertia_, self.n_iter_ = result.inertia, result.n_iter
        return self

    def predict(self, X: ArrayLike) -> Int[np.ndarray, " m"]:
        """Nearest center of each row of ``X`` [m, d]. Raises ValueError as ``fit``."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        try:
            labels: Int[np.ndarray, " m"] = assign(
                Points(rows, metric=self.metric, dtype=self.dtype, device=self.device), self.cluster_centers_
            )
        except StrataError as error:
            raise ValueError(str(error)) from error
        return labels
