"""k-means with the distortion |x - c|^s, s >= 2 (paper section 3.2 and Figs. 2 and 3): larger s, flatter centroids.

Assignments are those of k-means. The centroid has no closed form for s > 2; the objective is convex in it, so each
update takes steps toward the mean weighted by |x - c|^(s - 2), halved cluster by cluster until the distortion falls.
The start is k-means++ with D^s in place of D^2.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.distance import assign
from strata.curation.kmeans.points import Points

_STEPS = 10  # of descent per assignment; the next assignment changes the problem, so it need not be solved
_HALVINGS = 30


@dataclass
class PowerKMeans:
    """A clustering under |x - c|^s."""

    centroids: Float[np.ndarray, "k d"]  # float64
    labels: Int[np.ndarray, " n"]  # int32, nearest centroid
    history: list[float]  # (mean of |x - c|^s)^(1/s) after each assignment: falls, and is in the units of the data


def power_kmeans(
    X: ArrayLike, n_clusters: int, *, power: float, n_iter: int = 50, random_state: int = 0
) -> PowerKMeans:
    """Cluster the rows of ``X`` [n, d]; at most ``n_iter`` updates, fewer when no label changes.

    Raises:
        ConfigError: power below 2, or more clusters than rows.
        DataError: NaN or infinite values.
    """
    points = np.ascontiguousarray(X, np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(f"points of shape {points.shape} are no finite [n, d]; clean the data")
    if not power >= 2:
        raise ConfigError("codebook.power", f"{power}", "give 2 (k-means) or more")
    if not 1 <= n_clusters <= len(points):
        raise ConfigError("codebook.n_clusters", f"{n_clusters} for {len(points)} rows", "use 1 to the number of rows")
    source = Points(points, dtype="float64", device="cpu")
    centroids = points[plus_plus_power(points, n_clusters, power, np.random.default_rng(random_state))]
    labels = assign(source, centroids)
    history = [power_radius(points, centroids, labels, power)]
    for _ in range(n_iter):
        centroids = descend(points, centroids, labels, power)
        before, labels = labels, assign(source, centroids)
        history.append(power_radius(points, centroids, labels, power))
        if np.array_equal(before, labels) and history[-1] > history[-2] * (1 - 1e-6):
            break
    return PowerKMeans(centroids, labels, history)


def plus_plus_power(X: Float[np.ndarray, "n d"], k: int, power: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of k centers: each drawn with probability proportional to D^power, D the distance to the nearest so far.

    In d dimensions that alone gives centers of density p^(d / (d + power)). Where the points run out of distance
    (duplicates), the rest are the lowest rows not taken.
    """
    chosen = [int(rng.integers(len(X)))]
    closest = np.square(X - X[chosen[0]]).sum(axis=1)
    while len(chosen) < k and closest.max() > 0:
        cumulative = np.cumsum((closest / closest.max()) ** (power / 2))
        row = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        chosen.append(min(row, len(X) - 1))
        np.minimum(closest, np.square(X - X[chosen[-1]]).sum(axis=1), out=closest)
    left = np.setdiff1d(np.arange(len(X)), chosen)
    return np.array(chosen + left[: k - len(chosen)].tolist(), np.int64)


def descend(
    X: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"], labels: Int[np.ndarray, " n"], power: float
) -> Float[np.ndarray, "k d"]:
    """Centroids of no larger distortion for the same labels; for power 2 the means. Empty clusters stay."""
    k, center = len(centroids), centroids.copy()
    for _ in range(1 if power == 2 else _STEPS):
        square = np.square(X - center[labels]).sum(axis=1)
        largest = np.zeros(k)
        np.maximum.at(largest, labels, square)
        scale = np.where(largest > 0, largest, 1.0)  # per cluster, so that no power under- or overflows
        weight = (square / scale[labels]) ** (power / 2 - 1)
        mass = np.bincount(labels, weight, minlength=k)
        sums = np.stack([np.bincount(labels, weight * axis, minlength=k) for axis in X.T], axis=1)
        target = np.divide(sums, mass[:, None], out=center.copy(), where=mass[:, None] > 0)
        if power == 2:
            return target
        now = np.bincount(labels, (square / scale[labels]) ** (power / 2), minlength=k)
        step = np.full(k, min(1.0, 4.0 / (power - 1)))  # 1 / (power - 1) is Newton's step on a line
        for _ in range(_HALVINGS):
            moved = center + step[:, None] * (target - center)
            ratio = np.square(X - moved[labels]).sum(axis=1) / scale[labels]
            with np.errstate(over="ignore"):
                worse = np.bincount(labels, ratio ** (power / 2), minlength=k) > now
            if not worse.any():
                break
            step[worse] /= 2
        center = np.where(worse[:, None], center, moved)
    return center


def power_radius(
    X: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"], labels: Int[np.ndarray, " n"], power: float
) -> float:
    """(mean of |x - c|^power)^(1 / power)."""
    distance = np.sqrt(np.square(X - centroids[labels]).sum(axis=1))
    largest = float(distance.max())
    return largest * float(np.mean((distance / largest) ** power)) ** (1 / power) if largest > 0 else 0.0
