"""New rows to the centroids of a clustering that is already there."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError
from strata.curation.kmeans.distance import assign, squared_distances
from strata.curation.kmeans.points import Points


def nearest_centroids(
    X: Any, centroids: Float[np.ndarray, "k d"], metric: str
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Nearest centroid of each row of ``X`` [m, d], int32, and the distance to it, float32 (cosine: 1 - cos).

    Raises:
        ConfigError: an unknown metric, or another number of features. DataError: X is not finite.
    """
    points = Points(X, metric=metric)  # type: ignore[arg-type]  # checked there
    if points.d != centroids.shape[1]:
        raise ConfigError("X", f"{points.d} features", f"give the {centroids.shape[1]} of the centroids")
    labels = assign(points, centroids)
    return labels, centroid_distances(points, centroids, labels)


def centroid_distances(
    points: Points, centroids: Float[np.ndarray, "k d"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Distance of each point to the centroid of its label, float32; as a ``Level`` of a hierarchy holds it."""
    squared = squared_distances(points, centroids, labels)
    # Of normalized rows |x - c|^2 = 2 - 2 cos.
    distance: Float[np.ndarray, " m"] = squared / 2 if points.metric == "cosine" else np.sqrt(squared)
    return distance.astype(np.float32)
