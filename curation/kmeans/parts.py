"""Nearest centroids and distances where each process holds a part of the centroids; see ``share``."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from strata.curation.kmeans.distance import (
    assign,
    exact_distances,
    make_table,
    nearest_rows,
    rounding_bound,
    squared_distances,
)
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.share import Share
from strata.curation.kmeans.sums import ClusterSums


def nearest_of_all(
    points: Points, centroids: Float[np.ndarray, "s d"], share: Share, *, tile: int = TILE
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Nearest centroid of every point among those of all processes, int32, and the squared distance to it, float64.

    Rows are gone through once per part. A part's nearest centroid wins by its exact distance, the lowest index on ties:
    what ``assign`` and ``squared_distances`` give with all centroids at hand.
    """
    if share.is_whole:
        labels = assign(points, centroids, tile=tile)
        return labels, squared_distances(points, centroids, labels)
    labels, best = np.full(points.n, -1, np.int32), np.full(points.n, np.inf)
    # Centered rows have |x|^2 <= d, so this is more than the rounding of any product.
    margin = 8 * points.d * rounding_bound(points.d, points.dtype)
    for low, part in share.visits(centroids):
        table = make_table(points, part)
        for start, stop in points.blocks():
            found = nearest_rows(points, points.centered(start, stop), np.arange(start, stop), table, tile=tile)
            near = found.near <= best[start:stop] * points.scale**2 + margin  # the others cannot be nearer
            rows = start + np.flatnonzero(near)
            distance = exact_distances(points, rows, part, found.label[near])
            nearer = distance < best[rows]
            rows = rows[nearer]
            best[rows], labels[rows] = distance[nearer], low + found.label[near][nearer]
    return labels, best


def distances_to_own(
    points: Points, centroids: Float[np.ndarray, "s d"], share: Share, labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Squared distance of every point to the centroid of its label, float64; as ``squared_distances``."""
    if share.is_whole:
        return squared_distances(points, centroids, labels)
    out = np.empty(points.n)
    for low, part in share.visits(centroids):
        rows = np.flatnonzero((labels >= low) & (labels < low + len(part)))
        out[rows] = exact_distances(points, rows, part, labels[rows] - low)
    return out


def move_sums(
    points: Points,
    sums: ClusterSums,
    before: Int[np.ndarray, " n"],
    after: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"] | None,
) -> None:
    """Bring the sums up to date with labels that changed: part by part, added up on the process that holds it."""
    share = sums.share
    for rank, (low, high) in enumerate(share.spans()):
        change = ClusterSums.zeros(Share(high - low), points.d, points.total, weight)
        for labels, sign in ((after, 1), (before, -1)):
            _add_part(points, change, labels, (labels != (before if sign > 0 else after)), (low, high), weight, sign)
        totals = share.group.sum_on(change.totals, rank)
        if rank == share.group.rank:
            sums.totals += totals
        sums.masses[low:high] += share.group.sum(change.masses)


def _add_part(
    points: Points,
    change: ClusterSums,
    labels: Int[np.ndarray, " n"],
    changed: Bool[np.ndarray, " n"],
    span: tuple[int, int],
    weight: Float[np.ndarray, " n"] | None,
    sign: int,
) -> None:
    for start, stop in points.blocks():
        part = labels[start:stop]
        rows = np.flatnonzero(changed[start:stop] & (part >= span[0]) & (part < span[1]))
        if len(rows):
            x = points.centered(start, stop)
            x = x if len(rows) == len(x) else x[torch.from_numpy(rows).to(x.device)]
            own = None if weight is None else weight[start:stop][rows]
            change.add(x, part[rows] - span[0], own, sign=sign)
