"""Which clusters a picture of the tree shows (paper, Fig. 5), by a rule that looks at sizes only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from strata.curation.atlas.exemplars import Exemplars
from strata.curation.hierarchy import Hierarchy
from strata.curation.kinship import count_classes, majorities


@dataclass(frozen=True)
class Node:
    """A cluster of the picture.

    Attributes:
        level, cluster: of the hierarchy. size: rows below it.
        rows: that stand for it. On level 1 those nearest to its centroid; above, those of its nearest children in turn.
        label, share: its most frequent class and the share of its labelled rows that are of it; -1 and NaN without any.
        children: its largest ones, largest first; n_children: all that have a row.
    """

    level: int
    cluster: int
    size: int
    rows: list[int]
    label: int
    share: float
    children: list["Node"] = field(default_factory=list)
    n_children: int = 0


def at_quantiles(sizes: Int[np.ndarray, " k"], quantiles: Sequence[float]) -> list[int]:
    """The clusters at quantiles of the sizes of those that have a row: 0 is the smallest, 1 the largest.

    Of equal sizes the lower id is the smaller. Two quantiles of few clusters may be the same one, which is told once.
    """
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    places = [int(np.floor(quantile * (len(order) - 1) + 0.5)) for quantile in quantiles]
    return list(dict.fromkeys(order[places].tolist()))


def tree_nodes(
    hierarchy: Hierarchy,
    classes: Int[np.ndarray, " n"] | None,
    *,
    level: int,
    quantiles: Sequence[float],
    children: int,
    images: int,
    root_images: int,
) -> list[Node]:
    """Clusters of ``level`` at quantiles of their sizes, each with its largest children and these with theirs.

    Args:
        hierarchy: with distances. classes: of each row, -1 for none, or None.
        level: of the roots; two levels below are told, as far as there are.
        quantiles: see ``at_quantiles``.
        children: most of a node that are told (ties: lowest id first). images: rows of a child; root_images: of a root.
    """
    exemplars = Exemplars(hierarchy, images, 0)
    lowest = max(1, level - 2)
    told = {
        at: None if classes is None else majorities(count_classes(hierarchy.labels(at), classes, hierarchy.n_clusters[at - 1]))
        for at in range(lowest, level + 1)
    }  # fmt: skip

    def node(at: int, cluster: int, wanted: int) -> Node:
        found = told[at]
        label, share = (-1, float("nan")) if found is None else (int(found[0][cluster]), float(found[1][cluster]))
        size, rows = int(hierarchy.sizes(at)[cluster]), exemplars.extreme(at, cluster, wanted, 1)
        if at == lowest:
            return Node(at, cluster, size, rows, label, share)
        sizes = hierarchy.sizes(at - 1)
        below = np.sort(hierarchy.members(at, cluster))
        below = below[sizes[below] > 0]
        largest = below[np.argsort(-sizes[below], kind="stable")][:children].tolist()
        return Node(at, cluster, size, rows, label, share, [node(at - 1, c, images) for c in largest], len(below))

    return [node(level, cluster, root_images) for cluster in at_quantiles(hierarchy.sizes(level), quantiles)]
