"""Lloyd's iterations: C0, A0 = nearest(C0), then {C = means(A), A = nearest(C)} until nothing moves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from strata.curation.kmeans.distance import TILE, make_table, nearest, squared_distances
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.sums import ClusterSums, total_square

Weight = Float[np.ndarray, " n"] | None


@dataclass
class LloydResult:
    """Centroids, the nearest of them for each point, and how the iterations went."""

    centroids: Float[np.ndarray, "k d"]
    labels: Int[np.ndarray, " n"]
    n_iter: int
    converged: bool
    history: list[float]  # inertia of (C0, A0), (C1, A1), ...


def lloyd(
    points: Points,
    centroids: Float[np.ndarray, "k d"],
    *,
    n_iter: int = 50,
    tol: float = 0.0,
    weight: Weight = None,
    empty: Literal["keep", "repair"] = "keep",
    on_iteration: Callable[[], object] | None = None,
    tile: int = TILE,
) -> LloydResult:
    """At most ``n_iter`` updates of the centroids; the labels returned are always those of the centroids returned.

    Args:
        points: the data.
        centroids: where to start, [k, d].
        n_iter: most updates.
        tol: stop when the squared movement of all centroids is at most tol times the mean variance of a feature
            (as scikit-learn). With 0 it stops only when no label changes any more: more updates would change nothing.
        weight: of each point, or None.
        empty: "keep": a cluster without points keeps its centroid (as the paper's code); "repair": it moves to the
            point farthest from its own centroid, each to another one.
        on_iteration: called after each update, for a progress bar.
        tile: elements of a distance tile; the result does not depend on it.
    """
    square = total_square(points, weight)
    total_weight = points.n if weight is None else float(weight.sum())
    stop_below = tol * square / points.scale**2 / max(total_weight, 1e-300) / points.d
    labels, sums = _assign_and_sum(points, centroids, weight, tile)
    history = [sums.inertia(points, centroids, square)]
    converged, updates = False, 0
    while updates < n_iter and not converged:
        updated = sums.means(points, centroids)
        if empty == "repair" and (sums.weights == 0).any():
            updated = _repair(points, updated, labels, sums, weight)
        moved = float(np.square(updated.astype(np.float64) - centroids).sum())
        centroids, before = updated, labels
        labels, sums = _assign_and_sum(points, centroids, weight, tile)
        history.append(sums.inertia(points, centroids, square))
        converged = moved <= stop_below or bool((labels == before).all() and (empty == "keep" or sums.weights.all()))
        updates += 1
        if on_iteration is not None:
            on_iteration()
    return LloydResult(centroids, labels, updates, converged, history)


def _assign_and_sum(
    points: Points, centroids: Float[np.ndarray, "k d"], weight: Weight, tile: int
) -> tuple[Int[np.ndarray, " n"], ClusterSums]:
    table = make_table(points, centroids)
    labels = np.empty(points.n, np.int32)
    sums = ClusterSums.zeros(len(centroids), points.d)
    for start, stop in points.blocks():
        block = nearest(points, start, stop, table, tile=tile)
        sums.add_block(points.centered(start, stop), block, None if weight is None else weight[start:stop])
        labels[start:stop] = block
    return labels, sums


def _repair(
    points: Points,
    centroids: Float[np.ndarray, "k d"],
    labels: Int[np.ndarray, " n"],
    sums: ClusterSums,
    weight: Weight,
) -> Float[np.ndarray, "k d"]:
    """Move the centroids of empty clusters to the points that are farthest from their own centroids."""
    distance = squared_distances(points, centroids, labels)
    if weight is not None:
        distance *= weight > 0
    empty = np.flatnonzero(sums.weights == 0)
    farthest = np.argsort(-distance, kind="stable")[: len(empty)]
    farthest = farthest[distance[farthest] > 0]  # none left to move to: fewer distinct points than clusters
    repaired = centroids.copy()
    repaired[empty[: len(farthest)]] = points.exact_rows(farthest)
    return repaired
