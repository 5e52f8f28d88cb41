"""How many clusters each class gets, against how many items it has: the measure of the paper's Fig. 4.

k-means gives a class clusters in proportion to its size; a balanced clustering gives every class the same number. The
paper calls the items in a class's clusters its size, since its pool has no labels; where there are labels, the size
can be counted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from strata.curation.errors import ConfigError, DataError


@dataclass(frozen=True)
class LineFit:
    """Least squares line y = intercept + slope x over classes, and Pearson's correlation (NaN if x or y is constant)."""

    slope: float
    intercept: float
    correlation: float


def classes_by_majority(
    clusters: ArrayLike, classes: ArrayLike, n_clusters: int, n_classes: int
) -> Int[np.ndarray, " k"]:
    """Most frequent class of each cluster's rows, int64 [k]: the lowest of equally frequent ones, -1 without any.

    Args:
        clusters: cluster of each row [n], -1 for none.
        classes: class of each row [n], -1 for none.
        n_clusters, n_classes: k and c.

    Raises:
        DataError: lengths differ, or a value is out of range.
    """
    cluster = _checked("clusters", clusters, n_clusters)
    label = _checked("classes", classes, n_classes)
    if len(cluster) != len(label):
        raise DataError(f"{len(cluster)} clusters and {len(label)} classes of rows; give one of each per row")
    both = (cluster >= 0) & (label >= 0)
    # Sorted pairs and run lengths: a table k x c would not fit for large k.
    pairs, counts = np.unique(cluster[both] * n_classes + label[both], return_counts=True)
    order = np.lexsort((pairs % n_classes, -counts, pairs // n_classes))
    first = order[np.unique((pairs // n_classes)[order], return_index=True)[1]]
    found = np.full(n_clusters, -1, np.int64)
    found[pairs[first] // n_classes] = pairs[first] % n_classes
    return found


def classes_by_neighbors(
    centroids: Float[np.ndarray, "k d"],
    reference: Float[np.ndarray, "r d"],
    reference_classes: Int[np.ndarray, " r"],
    n_neighbors: int = 5,
) -> Int[np.ndarray, " k"]:
    """Class of each centroid by a vote of its nearest labelled rows (Euclidean), int64 [k]; the paper's way.

    Of equally frequent classes the lowest wins. The reference should hold about as many rows of each class, or large
    classes win votes by their density alone.

    Raises:
        ConfigError: more neighbors than reference rows.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= n_neighbors <= len(reference):
        raise ConfigError("measure.n_neighbors", f"{n_neighbors} of {len(reference)} rows", "use at most these")
    _, nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(reference).kneighbors(centroids)
    votes = np.asarray(reference_classes, np.int64)[nearest]  # [k, neighbors]
    owner = np.repeat(np.arange(len(centroids)), n_neighbors)
    return classes_by_majority(owner, votes.ravel(), len(centroids), int(votes.max()) + 1)


def balanced_rows(classes: Int[np.ndarray, " n"], per_class: int, random_state: int) -> Int[np.ndarray, " r"]:
    """Up to ``per_class`` random rows of each class, ascending: a reference for ``classes_by_neighbors``."""
    if per_class < 1:
        raise ConfigError("measure.per_class", f"{per_class}", "give 1 or more")
    shuffled = np.random.default_rng(random_state).permutation(len(classes))
    shuffled = shuffled[classes[shuffled] >= 0]
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    counts = np.bincount(classes[order])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < per_class])


def per_class(
    cluster_classes: Int[np.ndarray, " k"], cluster_sizes: Int[np.ndarray, " k"], n_classes: int
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """(number of clusters, items in these clusters) of each class. Clusters of class -1 and empty ones do not count."""
    counted = (cluster_classes >= 0) & (cluster_sizes > 0)
    owner = cluster_classes[counted]
    items = np.bincount(owner, cluster_sizes[counted], minlength=n_classes).astype(np.int64)
    return np.bincount(owner, minlength=n_classes), items


def fit_line(x: ArrayLike, y: ArrayLike) -> LineFit:
    """Line through (x, y) [c] and their correlation. A constant x gives slope 0 through the mean of y."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(f"values of shapes {a.shape} and {b.shape} have no line; give two equally long lists")
    da, db = a - a.mean(), b - b.mean()
    xx, yy, xy = float(da @ da), float(db @ db), float(da @ db)
    slope = xy / xx if xx > 0 else 0.0
    correlation = xy / (xx * yy) ** 0.5 if xx > 0 and yy > 0 else float("nan")
    return LineFit(slope, float(b.mean() - slope * a.mean()), correlation)


def _checked(name: str, values: ArrayLike, count: int) -> Int[np.ndarray, " n"]:
    array = np.asarray(values, np.int64)
    if array.ndim != 1 or (array.size and not -1 <= array.min() <= array.max() < count):
        raise DataError(f"{name} are not in -1 to {count - 1}; give integers [n]")
    return array
