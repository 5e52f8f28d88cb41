"""Lloyd's iterations: C0, A0 = nearest(C0), then {C = means(A), A = nearest(C)} until nothing moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from strata.curation.kmeans.bounds import Bounds
from strata.curation.kmeans.checkpoints import RunState
from strata.curation.kmeans.distance import CentroidTable, make_table
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.parts import distances_to_own, move_sums, nearest_of_all
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
    k: int | None = None,
    n_iter: int = 50,
    tol: float = 0.0,
    weight: Weight = None,
    empty: Literal["keep", "repair"] = "keep",
    on_iteration: Callable[[], object] | None = None,
    state: RunState | None = None,
    tile: int = TILE,
) -> LloydResult:
    """At most ``n_iter`` updates of the centroids; the labels returned are always those of the centroids returned.

    Args:
        points: the data.
        centroids: where to start, [k, d].
        k: number of centroids, where ``centroids`` are only this process's part of them (see ``Points.share``).
        n_iter: most updates.
        tol: stop when the squared movement of all centroids is at most tol times the mean variance of a feature
            (as scikit-learn). With 0 it stops only when no label changes any more: more updates would change nothing.
        weight: of each point, or None.
        empty: "keep": a cluster without points keeps its centroid (as the paper's code); "repair": it moves to the
            point farthest from its own centroid, each to another one.
        on_iteration: called after each update, for a progress bar.
        state: where centroids are kept from time to time; if it has some, they are gone on from.
        tile: elements of a distance tile; the result does not depend on it.
    """
    weight, unit = scaled(weight)
    square = total_square(points, weight)
    total_weight = points.total if weight is None else float(weight.sum())
    stop_below = tol * square / points.scale**2 / max(total_weight, 1e-300) / points.d
    run = Pass(points, len(centroids) if k is None else k, weight, tile)
    begun = None if state is None else state.load()
    centroids, history = (centroids, []) if begun is None else begun
    run.assign(centroids)
    history = history or [run.sums.inertia(points, centroids, square) * unit]
    converged, updates = False, len(history) - 1
    while updates < n_iter and not converged:
        updated = run.sums.means(points, centroids)
        if empty == "repair" and (run.sums.masses == 0).any():
            updated = repaired(points, updated, run.bounds.labels, run.sums, weight)
        moved = float(run.share.gathered(np.square(updated.astype(np.float64) - centroids).sum(1)).sum())
        centroids = updated
        changed = run.assign(centroids)
        history.append(run.sums.inertia(points, centroids, square) * unit)
        converged = moved <= stop_below or (changed == 0 and (empty == "keep" or bool(run.sums.masses.all())))
        updates += 1
        if state is not None and not converged:
            state.save(centroids, history)
        if on_iteration is not None:
            on_iteration()
    return LloydResult(centroids, run.bounds.labels, updates, converged, history)


class Pass:
    """One pass over the points after the other: labels, bounds and sums follow the centroids.

    This is the one place where the rows are gone through: in blocks of ``BLOCK`` rows, each on its own. What blocks add
    to the sums are whole numbers, so the blocks may lie on several processes that add up their ``ClusterSums``.
    """

    def __init__(self, points: Points, k: int, weight: Weight, tile: int = TILE) -> None:
        self.points, self.k, self.weight, self.tile = points, k, weight, tile
        self.share = points.share(k)
        self.bounds = Bounds(points.n)
        self.own = ClusterSums.zeros(self.share, points.d, points.total, weight)  # of the rows of this process
        self.sums = self.own  # of all rows, after ``gather``
        self._table: CentroidTable | None = None

    def assign(self, centroids: Float[np.ndarray, "k d"]) -> int:
        """Label all points with their nearest centroid and bring the sums up to date; returns how many changed."""
        if not self.share.is_whole:
            return self._assign_parts(centroids)
        table = make_table(self.points, centroids)
        drift = self.bounds.drift(self._table, table, self.k)
        changed = 0
        for start, stop in self.points.blocks():
            before = self.bounds.labels[start:stop].copy()
            self.bounds.update(self.points, start, stop, drift, self.tile)
            changed += self.move(start, stop, before)
        self._table = table
        return self.gather(changed)

    def _assign_parts(self, centroids: Float[np.ndarray, "s d"]) -> int:
        """The same where each process holds a part of the centroids, without bounds."""
        before = self.bounds.labels
        self.bounds.labels, _ = nearest_of_all(self.points, centroids, self.share, tile=self.tile)
        move_sums(self.points, self.own, before, self.bounds.labels, self.weight)
        return self.gather(int((before != self.bounds.labels).sum()))

    def gather(self, changed: int) -> int:
        """Add up the sums of all processes, and how many labels changed."""
        self.sums = self.own.of_all(self.points)
        return self.points.group.count(changed)

    def move(self, start: int, stop: int, before: Int[np.ndarray, " m"]) -> int:
        """Add the rows of a block whose label changed to their new sums, and take them from the old ones."""
        after = self.bounds.labels[start:stop]
        rows = np.flatnonzero(after != before)
        if len(rows):
            x = self.points.centered(start, stop)
            x = x if len(rows) == len(x) else x[torch.from_numpy(rows).to(x.device)]
            weight = None if self.weight is None else self.weight[start:stop][rows]
            self.own.add(x, after[rows], weight)
            if before[rows[0]] >= 0:
                self.own.add(x, before[rows], weight, sign=-1)
        return len(rows)


def scaled(weight: Weight) -> tuple[Weight, float]:
    """Weights times a power of two so that none is above 1, and what undoes it."""
    if weight is None:
        return None, 1.0
    unit = 2.0 ** math.frexp(float(weight.max()))[1]
    return weight / unit, unit


def repaired(
    points: Points,
    centroids: Float[np.ndarray, "k d"],
    labels: Int[np.ndarray, " n"],
    sums: ClusterSums,
    weight: Weight,
) -> Float[np.ndarray, "k d"]:
    """Move the centroids of empty clusters to the points that are farthest from their own centroids."""
    share = sums.share
    distance = distances_to_own(points, centroids, share, labels)
    if weight is not None:
        distance *= weight > 0
    empty = np.flatnonzero(sums.masses == 0)
    farthest = np.argsort(-distance, kind="stable")[: len(empty)]
    far = points.group.concatenated(distance[farthest])
    rows = points.group.concatenated(farthest + points.first)
    order = np.argsort(-far, kind="stable")[: len(empty)]
    rows = rows[order][far[order] > 0]  # none left to move to: fewer distinct points than clusters
    repaired, empty = centroids.copy(), empty[: len(rows)]
    own = (empty >= share.own.start) & (empty < share.own.stop)
    repaired[empty[own] - share.own.start] = points.rows_anywhere(rows[own])
    return repaired
