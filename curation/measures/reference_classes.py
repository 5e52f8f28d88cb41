"""Clusters of each class where the pool has no labels: classes of a labelled reference set (paper Fig. 4)."""

import numpy as np

from strata.curation.clusters_per_class import classes_by_neighbors, fit_line, per_class
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Findings, Measured
from strata.curation.measures.clusters_per_class import LARGEST


class ClustersPerReferenceClass:
    """Number of clusters of each class against the number of items in them: the paper's own way.

    A cluster has the class of its centroid's nearest rows in the reference set (the paper: ImageNet-1k). Nobody knows how many
    items of a class such a pool has, so that its size is what its clusters hold. Only classes with a cluster are fitted.

    Values: ``slope_by_clusters`` in units of a proportional share, ``correlation_by_clusters`` (Pearson),
    ``clusters_of_largest``, ``most_clusters`` and ``share_of_largest`` (of all clusters, those of the ten largest classes);
    see ``ClustersPerClass``.

    Args:
        n_neighbors: of the vote; not stated in the paper.
    """

    VERSION = 1
    needs_rows = False
    needs_tree = True
    needs_reference = True
    level = 1  # every tree has it; the top level is what is measured
    metrics = (
        "clusters_of_largest",
        "most_clusters",
        "share_of_largest",
        "slope_by_clusters",
        "correlation_by_clusters",
    )

    def __init__(self, n_neighbors: int = 5) -> None:
        if n_neighbors < 1:
            raise ConfigError("measure.n_neighbors", f"{n_neighbors}", "use 1 or more")
        self.n_neighbors = n_neighbors

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError without a labelled reference set."""
        if measured.reference is None or measured.reference_classes is None:
            raise DataError("clusters per reference class needs references.labelled, a set with labels; name one")
        labelled = measured.reference_classes >= 0
        owners = classes_by_neighbors(
            measured.points, measured.reference[labelled], measured.reference_classes[labelled], self.n_neighbors
        )
        sizes = np.bincount(measured.labels[measured.labels >= 0], minlength=len(measured.points))
        clusters, items = per_class(owners, sizes, int(owners.max()) + 1)
        there = clusters > 0
        classes, clusters, items = np.flatnonzero(there), clusters[there], items[there]
        line, order = fit_line(items, clusters), np.argsort(-items, kind="stable")
        values = {
            "clusters_of_largest": float(clusters[order[0]]),
            "most_clusters": float(clusters.max()),
            "share_of_largest": float(clusters[order[:LARGEST]].sum() / clusters.sum()),
            "slope_by_clusters": line.slope * items.sum() / clusters.sum(),
            "correlation_by_clusters": line.correlation,
        }
        return Findings(values, {"class": classes, "items": items, "clusters": clusters})
