"""The clusters of every level as columns: rows before, quota, rows after; children of a node side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from strata.curation.hierarchy import Hierarchy
from strata.curation.subset import Selection


@dataclass(frozen=True)
class LevelCounts:
    """Rows of each cluster of a level: of the pool, of the subset with and without repeats, and its quota. int64 [k]."""

    before: Int[np.ndarray, " k"]
    after: Int[np.ndarray, " k"]
    distinct: Int[np.ndarray, " k"]
    quota: Int[np.ndarray, " k"]

    @property
    def lost(self) -> Int[np.ndarray, " k"]:
        """Rows of the pool that are not in the subset."""
        return self.before - self.distinct


@dataclass(frozen=True)
class LevelNodes:
    """The clusters of a level that the atlas shows, by parent, then largest first.

    Attributes:
        ids: cluster of each node, [m].
        start: node i has the nodes ``start[i]`` to ``start[i + 1]`` of the level below, [m + 1]; empty on level 1.
        hidden: non-empty clusters of the level that are left out.
    """

    ids: Int[np.ndarray, " m"]
    start: Int[np.ndarray, " m1"]
    hidden: int


def count_rows(
    hierarchy: Hierarchy, selection: Selection, quotas: Sequence[Int[np.ndarray, " k"]]
) -> list[LevelCounts]:
    """``LevelCounts`` of each level, level 1 first."""
    counted = []
    leaves = hierarchy.labels(1)[selection.rows]
    for level, quota in enumerate(quotas, 1):
        nodes, k = hierarchy.ancestors(leaves, level), hierarchy.n_clusters[level - 1]
        after = np.bincount(nodes, selection.repeats, minlength=k).astype(np.int64)
        counted.append(LevelCounts(hierarchy.sizes(level), after, np.bincount(nodes, minlength=k), quota))
    return counted


def shown_nodes(hierarchy: Hierarchy, max_nodes: int) -> list[LevelNodes]:
    """The nodes of each level, level 1 first: of non-empty clusters the ``max_nodes`` largest whose parents are shown."""
    found: list[LevelNodes] = []
    above: NDArray[np.int64] = np.zeros(1, np.int64)  # the root
    for level in range(hierarchy.n_levels, 0, -1):
        size = hierarchy.sizes(level)
        top = level == hierarchy.n_levels
        parent = np.zeros(len(size), np.int64) if top else hierarchy.levels[level].assignment
        place = np.full(1 if top else hierarchy.n_clusters[level], -1)
        place[above] = np.arange(len(above))
        candidates = np.flatnonzero((size > 0) & (place[parent] >= 0))
        largest = candidates[np.lexsort((candidates, -size[candidates]))][:max_nodes]
        ids = largest[np.argsort(place[parent[largest]], kind="stable")]
        children = np.bincount(place[parent[ids]], minlength=len(above))
        if found:
            start = np.concatenate([[0], np.cumsum(children)])
            found[-1] = LevelNodes(found[-1].ids, start, found[-1].hidden)
        found.append(LevelNodes(ids, np.zeros(0, np.int64), int((size > 0).sum()) - len(ids)))
        above = ids
    return found[::-1]
