"""One level of the tree of clusters: the numbers beside the pictures of the paper's Fig. 5."""

import numpy as np

from strata.curation.errors import ConfigError, DataError
from strata.curation.kinship import (
    classes_per_cluster,
    count_classes,
    dealt_classes,
    dealt_parents,
    kinship,
    majorities,
    mean_kinship,
    purity,
)
from strata.curation.measures.base import Findings, Measured

NONE = float("nan")


class TreeLevel:
    """What the clusters of a level hold, and whether clusters of one parent hold the same.

    Values:
        ``clusters``: clusters with at least one row. ``images``: their mean number of rows.
        ``purity``: share of the rows that are of the most frequent class of their cluster. ``purity_gain``: that less
        ``purity_chance``, the same with the classes dealt out to the rows at random.
        ``classes``: exp(entropy of the classes) of a row's cluster, mean over rows. ``classes_chance``: dealt out at random.
        ``kinship``: probability that an image of a cluster and one of its sisters (the other clusters of its parent) are of
        one class, mean over clusters. ``kinship_gain``: that less ``kinship_chance``, the same with the clusters dealt out
        to the parents at random. The top level has no parents and a pool without labels no classes: NaN.

    Args:
        level: 1 is the lowest.
        deals: random ones that the chance is the mean of.
    """

    VERSION = 1
    needs_rows = False
    needs_tree = True
    needs_reference = False
    metrics = (
        "clusters",
        "images",
        "purity",
        "purity_chance",
        "purity_gain",
        "classes",
        "classes_chance",
        "kinship",
        "kinship_chance",
        "kinship_gain",
    )

    def __init__(self, level: int = 1, deals: int = 20) -> None:
        if level < 1 or deals < 1:
            raise ConfigError("measure", f"level {level}, deals {deals}", "use 1 or more")
        self.level, self.deals = level, deals

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for points that are no tree, or one without that level."""
        tree = measured.hierarchy
        if tree is None or self.level > tree.n_levels:
            levels = "no tree" if tree is None else f"a tree of {tree.n_levels} levels"
            raise DataError(f"level {self.level} is measured of {levels}; measure the centroids of more levels")
        sizes, clusters, k = tree.sizes(self.level), tree.labels(self.level), tree.n_clusters[self.level - 1]
        there = int((sizes > 0).sum())
        values = dict.fromkeys(self.metrics, NONE) | {"clusters": float(there), "images": tree.n / there}
        parents = None if self.level == tree.n_levels else tree.levels[self.level].assignment.astype(np.int64)
        columns = {"cluster": np.arange(k), "items": sizes, "parent": np.full(k, -1) if parents is None else parents}
        if measured.classes is None or not (measured.classes >= 0).any():
            return Findings(values, columns)
        counts = count_classes(clusters, measured.classes, k)
        values["purity"], values["classes"] = purity(counts), classes_per_cluster(counts)
        for name, measure in (("purity", purity), ("classes", classes_per_cluster)):
            chance = dealt_classes(measure, clusters, measured.classes, k, self.deals, measured.seed)
            values[f"{name}_chance"] = chance
        values["purity_gain"] = values["purity"] - values["purity_chance"]
        columns["label"], columns["share"] = majorities(counts)
        if parents is not None:
            values["kinship"] = mean_kinship(counts, parents)
            values["kinship_chance"] = dealt_parents(counts, parents, self.deals, measured.seed)
            values["kinship_gain"] = values["kinship"] - values["kinship_chance"]
            columns["kinship"] = kinship(counts, parents)
        return Findings(values, columns)
