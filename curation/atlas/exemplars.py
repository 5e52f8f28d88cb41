"""Which rows stand for a cluster: the closest to its center, the furthest from it, and random ones."""

from itertools import chain, zip_longest

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.hierarchy import Hierarchy, Level


class Exemplars:
    """Rows of the pool that stand for clusters of a hierarchy.

    On level 1 members are rows, ordered by their distance to the centroid. Above, they are clusters: the closest rows
    of a cluster are those of its closest children in turn, and so for the furthest. Without distances there are only
    random ones.

    Args:
        hierarchy: with distances, or without.
        per_kind: most rows of each kind.
        seed: of the random ones; those of a cluster depend on it, the level and the cluster only.
    """

    def __init__(self, hierarchy: Hierarchy, per_kind: int, seed: int) -> None:
        self.hierarchy, self.per_kind, self.seed = hierarchy, per_kind, seed
        self.ranked = all(level.distance is not None for level in hierarchy.levels)
        self._by_node: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def of(self, level: int, cluster: int) -> tuple[list[int], list[int], list[int]]:
        """Closest, random and furthest rows of a cluster, all different."""
        rows = self.rows_of(level, cluster)
        closest = self.extreme(level, cluster, self.per_kind, 1) if self.ranked else []
        furthest = self.extreme(level, cluster, self.per_kind, -1) if self.ranked else []
        furthest = [row for row in furthest if row not in closest]
        taken = set(closest) | set(furthest)
        drawn = self.random(rows, self.per_kind + len(taken), level, cluster)
        return closest, [row for row in drawn if row not in taken][: self.per_kind], furthest

    def first(self, level: int, cluster: int) -> list[int]:
        """The one row that stands for a cluster best."""
        if self.ranked:
            return self.extreme(level, cluster, 1, 1)
        return self.random(self.rows_of(level, cluster), 1, level, cluster)

    def extreme(self, level: int, cluster: int, n: int, sign: int) -> list[int]:
        """At most ``n`` rows, closest (sign 1) or furthest (-1) first."""
        members = self.hierarchy.members(level, cluster)[::sign]
        if level == 1:
            return [int(row) for row in members[:n]]
        children = [int(child) for child in members if self.hierarchy.sizes(level - 1)[child]][:n]
        if not children:
            return []
        of_each = [self.extreme(level - 1, child, -(-n // len(children)), sign) for child in children]
        in_turn = chain.from_iterable(zip_longest(*of_each))
        return [row for row in in_turn if row is not None][:n]

    def rows_of(self, level: int, cluster: int) -> Int[np.ndarray, " s"]:
        """All rows below a cluster, ascending."""
        if level not in self._by_node:
            labels = self.hierarchy.labels(level)
            ends = np.concatenate([[0], np.cumsum(self.hierarchy.sizes(level))])
            self._by_node[level] = (np.argsort(labels, kind="stable"), ends)
        order, ends = self._by_node[level]
        return order[ends[cluster] : ends[cluster + 1]]

    def random(self, rows: Int[np.ndarray, " s"], n: int, *stream: int) -> list[int]:
        """At most ``n`` different rows of those given."""
        if len(rows) == 0:
            return []
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=stream))
        return [int(row) for row in rng.choice(rows, min(n, len(rows)), replace=False, shuffle=True)]


def with_distances(hierarchy: Hierarchy, embeddings: ArrayLike) -> Hierarchy:
    """The hierarchy with distances: of each row to the mean of its cluster, of each cluster's mean to theirs.

    Args:
        embeddings: [n, d] rows of the pool.
    """
    points = np.asarray(embeddings)
    levels = []
    for level in hierarchy.levels:
        size = np.bincount(level.assignment, minlength=level.n_clusters)
        order = np.argsort(level.assignment, kind="stable")
        starts = (np.cumsum(size) - size)[size > 0]
        means = np.zeros((level.n_clusters, points.shape[1]), np.float32)
        means[size > 0] = np.add.reduceat(points[order].astype(np.float32), starts) / size[size > 0][:, None]
        gap = points - means[level.assignment]
        distance = np.sqrt(np.einsum("nd,nd->n", gap, gap, dtype=np.float64)).astype(np.float32)
        levels.append(Level(level.assignment, level.n_clusters, means, distance))
        points = means
    return Hierarchy(levels)
