"""What the paper shows of its tree of clusters as pictures (arXiv:2405.15613, Fig. 5), as numbers of a labelled pool.

A good tree has clusters of one class or few, and clusters under one parent hold the same classes. Both grow by chance where
clusters are small or one class is large, so each number has a counterpart with what it measures dealt out at random.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from strata.curation.errors import DataError


@dataclass(frozen=True)
class Counts:
    """How many rows of each class each cluster has: only pairs that occur, by cluster, then by class.

    Attributes:
        cluster, label, count: int64 [m].
        n_clusters: k, also those without a labelled row.
    """

    cluster: Int[np.ndarray, " m"]
    label: Int[np.ndarray, " m"]
    count: Int[np.ndarray, " m"]
    n_clusters: int

    @property
    def sizes(self) -> Int[np.ndarray, " k"]:
        """Labelled rows of each cluster."""
        return np.bincount(self.cluster, self.count, minlength=self.n_clusters).astype(np.int64)


def count_classes(clusters: ArrayLike, classes: ArrayLike, n_clusters: int) -> Counts:
    """Rows by cluster and class; rows without a class (-1) do not count.

    Args:
        clusters: cluster of each row [n]. classes: class of each row [n], -1 for none. n_clusters: k.

    Raises:
        DataError: lengths differ, or a cluster is out of range.
    """
    cluster, label = np.asarray(clusters, np.int64), np.asarray(classes, np.int64)
    if cluster.shape != label.shape or cluster.ndim != 1:
        raise DataError(f"clusters {cluster.shape} and classes {label.shape} of rows; give one of each per row")
    if cluster.size and not 0 <= cluster.min() <= cluster.max() < n_clusters:
        raise DataError(f"clusters are not in 0 to {n_clusters - 1}; give integers [n]")
    has = label >= 0
    width = int(label.max(initial=0)) + 1
    pairs, count = np.unique(cluster[has] * width + label[has], return_counts=True)
    return Counts(pairs // width, pairs % width, count.astype(np.int64), n_clusters)


def majorities(counts: Counts) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Most frequent class of each cluster (the lowest of equally frequent ones, -1 without a labelled row), and its share
    of the cluster's labelled rows (NaN without)."""
    owner = np.full(counts.n_clusters, -1, np.int64)
    share = np.full(counts.n_clusters, np.nan)
    order = np.lexsort((counts.label, -counts.count, counts.cluster))
    clusters, first = np.unique(counts.cluster[order], return_index=True)
    best = order[first]
    owner[clusters] = counts.label[best]
    share[clusters] = counts.count[best] / counts.sizes[clusters]
    return owner, share


def purity(counts: Counts) -> float:
    """Share of the labelled rows that are of the most frequent class of their cluster. NaN without any."""
    best = np.zeros(counts.n_clusters, np.int64)
    np.maximum.at(best, counts.cluster, counts.count)
    total = int(counts.count.sum())
    return float(best.sum() / total) if total else float("nan")


def classes_per_cluster(counts: Counts) -> float:
    """exp(entropy of its classes) of the cluster of a labelled row, mean over these rows. NaN without any."""
    sizes = counts.sizes
    share = counts.count / sizes[counts.cluster]
    entropy = np.bincount(counts.cluster, -share * np.log(share), minlength=counts.n_clusters)
    return float((np.exp(entropy) * sizes).sum() / sizes.sum()) if sizes.any() else float("nan")


def kinship(counts: Counts, parents: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Probability that a row of a cluster and a row of its sisters, the other clusters of its parent, are of one class.

    Both are random labelled rows. The cluster itself is no part of its sisters, so that a parent with one child, or a class
    that fills one cluster, says nothing: NaN for a cluster without a labelled row or without sisters that have one.

    Args:
        counts: of the k clusters.
        parents: parent of each cluster, 0 or more.
    """
    family = np.asarray(parents, np.int64)[counts.cluster]
    width = int(counts.label.max(initial=0)) + 1
    _, place = np.unique(family * width + counts.label, return_inverse=True)
    of_parent = np.bincount(place, counts.count)[place]  # rows of the pair's class below its cluster's parent
    same = np.bincount(counts.cluster, counts.count * (of_parent - counts.count), minlength=counts.n_clusters)
    sizes = counts.sizes
    sisters = np.bincount(parents, sizes)[parents] - sizes
    pairs = sizes * sisters
    return np.divide(same, pairs, out=np.full(counts.n_clusters, np.nan), where=pairs > 0)


def mean_kinship(counts: Counts, parents: Int[np.ndarray, " k"]) -> float:
    """Mean of ``kinship`` over the clusters that have one, each the same; NaN if none has."""
    found = kinship(counts, parents)
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else float("nan")


def dealt_classes(
    measure: Callable[[Counts], float], clusters: ArrayLike, classes: ArrayLike, k: int, deals: int, seed: int
) -> float:
    """Mean of a measure over ``deals`` pools whose classes are dealt out to the labelled rows at random."""
    rng, label = np.random.default_rng(seed), np.array(classes, np.int64)
    has, found = np.flatnonzero(label >= 0), []
    for _ in range(deals):
        label[has] = rng.permutation(label[has])
        found.append(measure(count_classes(clusters, label, k)))
    return float(np.mean(found))


def dealt_parents(counts: Counts, parents: Int[np.ndarray, " k"], deals: int, seed: int) -> float:
    """Mean of ``mean_kinship`` over ``deals`` trees whose clusters with a labelled row are dealt out to the parents at random.

    Each parent keeps its number of children, each cluster its rows.
    """
    rng, dealt = np.random.default_rng(seed), np.array(parents, np.int64)
    there, found = np.flatnonzero(counts.sizes), []
    for _ in range(deals):
        dealt[there] = rng.permutation(dealt[there])
        found.append(mean_kinship(counts, dealt))
    return float(np.mean(found))
