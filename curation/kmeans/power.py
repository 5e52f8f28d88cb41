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
    X: ArrayLike,
    n_clusters: int,
    *,
    power: float,
    n_iter: int = 50,
    random_state: int | np.random.SeedSequence = 0,
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
    centroids = points[plus_plus_power(points, n_clusters, power, np.random.default_rng(random_state))]
    labels = nearest(points, centroids)
    history = [power_radius(points, centroids, labels, power)]
    for _ in range(n_iter):
        centroids = descend(points, centroids, labels, power)
        before, labels = labels, nearest(points, centroids)
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
    axes = np.ascontiguousarray(X.T)
    closest = _square_distance(axes, chosen[0])
    scale, weight = 0.0, closest
    while len(chosen) < k and (largest := float(closest.max())) > 0:
        if largest < scale / 4 or scale == 0:  # distances shrink: without a new unit their powers would underflow
            scale = largest
            weight = (closest / scale) ** (power / 2)
        cumulative = np.cumsum(weight)
        row = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        chosen.append(min(row, len(X) - 1))
        square = _square_distance(axes, chosen[-1])
        nearer = np.flatnonzero(square < closest)
        closest[nearer] = square[nearer]
        weight[nearer] = (square[nearer] / scale) ** (power / 2)
    left = np.setdiff1d(np.arange(len(X)), chosen)
    return np.array(chosen + left[: k - len(chosen)].tolist(), np.int64)


def _square_distance(axes: Float[np.ndarray, "d n"], row: int) -> Float[np.ndarray, " n"]:
    total = np.square(axes[0] - axes[0, row])
    for axis in axes[1:]:
        total += np.square(axis - axis[row])
    return total


def nearest(X: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"]) -> Int[np.ndarray, " n"]:
    """Nearest centroid of each row, int32. On a line a binary search does it: k does not matter."""
    if X.shape[1] > 1:
        return assign(Points(X, dtype="float64", device="cpu"), centroids)
    order = np.argsort(centroids[:, 0], kind="stable")
    sites = centroids[order, 0]
    return order[np.searchsorted((sites[1:] + sites[:-1]) / 2, X[:, 0])].astype(np.int32)


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
