"""Exact pruning: rows whose nearest centroid cannot have changed are not looked at.

Each row has an upper bound of the distance to its own centroid and a lower bound of the distance to all others
(Hamerly 2010). Both drift by what the centroids move. One far-moving centroid would spoil the lower bound of all rows,
so the few fastest ("movers") are compared with every row by themselves, and only the movement of the others counts; how
many are called movers is chosen, in each iteration, to make the fewest products. Labels are those of a full pass.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.distance import CentroidTable, nearest_rows
from strata.curation.kmeans.match import TILE, Target, match
from strata.curation.kmeans.points import Points

_ROUND = 1 + 2.0**-20  # of distances kept in float32 and of drifts added to them


@dataclass
class Drift:
    """From one table of centroids to the next: how far each moved, and which are compared with every row."""

    table: CentroidTable
    own: Float[np.ndarray, " k"]  # movement of each centroid
    movers: Int[np.ndarray, " f"]
    to_movers: Float[np.ndarray, " k"]  # distance of each centroid to the nearest mover that is not itself
    others: float  # largest movement of the rest; inf: no bound holds, look at every row

    @classmethod
    def everything(cls, table: CentroidTable, k: int) -> Self:
        """No bound holds."""
        return cls(table, np.zeros(k), np.empty(0, np.int64), np.zeros(k), np.inf)


def _to_nearest(c: Float[np.ndarray, "k d"], movers: Int[np.ndarray, " f"]) -> Float[np.ndarray, " k"]:
    """Distance of each centroid to the nearest of the movers but itself (a little less, for rounding)."""
    squares = np.square(c).sum(1)
    out = np.full(len(c), np.inf)
    for start in range(0, len(movers), 512):
        some = movers[start : start + 512]
        distance = squares[:, None] + squares[some] - 2 * c @ c[some].T
        distance[some, np.arange(len(some))] = np.inf
        out = np.minimum(out, distance.min(1))
    rounding = 2.0**-40 * squares.max()
    return np.asarray(np.sqrt(np.maximum(out - rounding, 0)))


class Bounds:
    """Labels of all rows with their bounds, float32, in the space of the centered rows."""

    def __init__(self, n: int) -> None:
        self.labels: Int[np.ndarray, " n"] = np.full(n, -1, np.int32)
        self.upper: Float[np.ndarray, " n"] = np.full(n, np.inf, np.float32)
        self.lower: Float[np.ndarray, " n"] = np.zeros(n, np.float32)

    def drift(self, before: CentroidTable | None, after: CentroidTable, k: int) -> Drift:
        """Choose the movers. Bounds say nothing about centroids that equal another one: then nothing is pruned."""
        if before is None or len(before.index) < k or len(after.index) < k or after.target is None:
            return Drift.everything(after, k)
        moved = np.sqrt(np.square(after.centered - before.centered).sum(1)) * _ROUND
        order = np.argsort(-moved, kind="stable")
        slack = self.lower - self.upper - moved[self.labels]
        best, movers = float(len(slack)) * k, -1
        for number in sorted({0, *(k >> shift for shift in range(1, 9))}):
            work = float(len(slack)) * number + float((slack <= moved[order[number]] * _ROUND).sum()) * k
            if work < 0.9 * best:
                best, movers = work, number
        if movers < 0:
            return Drift.everything(after, k)
        fastest = np.sort(order[:movers])
        return Drift(after, moved, fastest, _to_nearest(after.centered, fastest), float(moved[order[movers]]))

    def update(self, points: Points, start: int, stop: int, drift: Drift, tile: int = TILE) -> None:
        """New labels and bounds of the rows of one block."""
        part = slice(start, stop)
        if drift.others == np.inf:
            self._look(points, points.centered(start, stop), np.arange(start, stop), drift, tile)
            return
        self.upper[part] = (self.upper[part] + drift.own[self.labels[part]]) * _ROUND
        self.lower[part] = (self.lower[part] - drift.others) / _ROUND
        unsure = self._unsure(part, drift)
        x: Tensor | None = None
        sure = np.flatnonzero(~unsure)
        kept = self.lower[part][sure]
        past = drift.to_movers[self.labels[part][sure]] / _ROUND - self.upper[part][sure]  # no mover is nearer
        self.lower[start + sure] = np.minimum(kept, past)
        near_mover = self._unsure(start + sure, drift)
        sure, kept = sure[near_mover], kept[near_mover]
        self.lower[start + sure] = kept
        if len(sure):
            x = points.centered(start, stop)
            unsure[sure] = self._pass_movers(x[torch.from_numpy(sure)], start + sure, drift, points, tile)
        rows = np.flatnonzero(unsure)
        if len(rows):
            x = points.centered(start, stop) if x is None else x
            self._look(points, x[torch.from_numpy(rows)], start + rows, drift, tile)

    def _unsure(self, rows: slice | NDArray[np.int64], drift: Drift) -> NDArray[np.bool_]:
        assert drift.table.target is not None
        upper = self.upper[rows]
        rounding = 2.0**-21 * (2 * drift.table.target.reach + upper)
        mask: NDArray[np.bool_] = ~(upper * _ROUND + rounding < self.lower[rows])
        return mask

    def _pass_movers(
        self, x: Tensor, rows: NDArray[np.int64], drift: Drift, points: Points, tile: int
    ) -> NDArray[np.bool_]:
        """Tighten the bounds by the distances to the movers; True where they no longer decide."""
        target = Target(drift.table.on_device[torch.from_numpy(drift.movers)])
        found = match(x, target, points.screen or torch.float32, tile=tile)
        is_own = drift.movers[found.label] == self.labels[rows]
        other = np.where(is_own, found.far, np.minimum(found.near, found.far))
        other[(found.tied > 0)] = 0
        near = np.sqrt(np.maximum(other, 0)) / _ROUND
        self.lower[rows] = np.minimum(self.lower[rows], near)
        return self._unsure(rows, drift)

    def _look(self, points: Points, x: Tensor, rows: NDArray[np.int64], drift: Drift, tile: int) -> None:
        found = nearest_rows(points, x, rows, drift.table, tile=tile)
        self.labels[rows] = found.label
        self.upper[rows] = np.sqrt(np.maximum(found.near, 0)) * _ROUND
        self.lower[rows] = np.sqrt(np.maximum(found.far, 0)) / _ROUND
