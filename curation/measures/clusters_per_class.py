"""Clusters of each class against its size (paper Fig. 4)."""

from typing import Literal

import numpy as np

from strata.curation.clusters_per_class import (
    balanced_rows,
    classes_by_majority,
    classes_by_neighbors,
    fit_line,
    per_class,
)
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Findings, Measured

LARGEST = 10  # classes whose share of the clusters is given, as in the paper


class ClustersPerClass:
    """Number of clusters of each class against its number of items, over the classes of the pool.

    Values: ``slope`` in units of a proportional share (1 = clusters in proportion to items, 0 = the same number for
    each class), ``correlation`` (Pearson), ``clusters_of_largest``, ``most_clusters``, ``share_of_largest`` (of all
    clusters, those of the ten largest classes), and ``slope_by_clusters`` and ``correlation_by_clusters``, where the
    size of a class is, as in the paper, the number of items in its clusters.

    Args:
        by: "neighbors": a cluster has the class of its centroid's nearest labelled rows, of a reference with
            ``per_class`` rows of each class (the paper: ImageNet); "majority": that of most of its rows; "chance": the
            votes of "neighbors" dealt out to the clusters at random. What remains there is no finding about classes:
            the items in a class's clusters grow with their number by themselves.
        n_neighbors: of the vote.
        per_class: rows of each class in the reference, drawn from the pool.
    """

    VERSION = 1
    needs_rows = False
    needs_tree = False
    needs_reference = False
    metrics = (
        "slope",
        "correlation",
        "clusters_of_largest",
        "most_clusters",
        "share_of_largest",
        "slope_by_clusters",
        "correlation_by_clusters",
    )

    def __init__(
        self, by: Literal["neighbors", "majority", "chance"] = "neighbors", n_neighbors: int = 5, per_class: int = 15
    ) -> None:
        if by not in ("neighbors", "majority", "chance"):
            raise ConfigError("measure.by", f"{by!r} is unknown", "use neighbors, majority or chance")
        if n_neighbors < 1 or per_class < 1:
            raise ConfigError("measure", f"n_neighbors {n_neighbors}, per_class {per_class}", "use 1 or more")
        self.by, self.n_neighbors, self.per_class = by, n_neighbors, per_class

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for a pool without labels."""
        if measured.classes is None:
            raise DataError("clusters per class needs labels and the pool has none; use a labelled pool")
        k, c = len(measured.points), measured.n_classes
        if self.by == "majority":
            owners = classes_by_majority(measured.labels, measured.classes, k, c)
        else:
            rows = balanced_rows(measured.classes, self.per_class, measured.seed)
            reference = measured.data[rows]
            owners = classes_by_neighbors(measured.points, reference, measured.classes[rows], self.n_neighbors)
        if self.by == "chance":
            owners = np.random.default_rng(measured.seed).permutation(owners)
        sizes = np.bincount(measured.labels[measured.labels >= 0], minlength=k)
        clusters, clustered = per_class(owners, sizes, c)
        items = np.bincount(measured.classes[measured.classes >= 0], minlength=c)
        if not clusters.any():
            raise DataError("no cluster has a class: the labels of the rows and the points do not go together")
        there = items > 0  # classes without an item in the pool cannot have a cluster
        items, clusters, clustered = items[there], clusters[there], clustered[there]
        mean = items.sum() / clusters.sum()  # items per cluster: makes slopes of different pools comparable
        by_items, by_clusters = fit_line(items, clusters), fit_line(clustered, clusters)
        order = np.argsort(-items, kind="stable")
        values = {
            "slope": by_items.slope * mean,
            "correlation": by_items.correlation,
            "clusters_of_largest": float(clusters[order[0]]),
            "most_clusters": float(clusters.max()),
            "share_of_largest": float(clusters[order[:LARGEST]].sum() / clusters.sum()),
            "slope_by_clusters": by_clusters.slope * mean,
            "correlation_by_clusters": by_clusters.correlation,
        }
        columns = {"class": np.flatnonzero(there), "items": items, "clusters": clusters, "clustered_items": clustered}
        return Findings(values, columns)
