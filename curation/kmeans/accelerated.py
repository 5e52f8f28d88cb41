"""Fewer and cheaper iterations than Lloyd's for large k, and one exact assignment at the end.

The means: seeds through coarse groups ("scalable") instead of k sequential passes. Seeds and first iterations on a
sample of 40 rows per centroid, where there are many more. Over-relaxed updates: a
centroid goes 1.7 times as far as to the mean of its points, which for a factor below 2 never raises the inertia and
saves about half of the iterations. And, from 4,096 clusters on, a point is compared only with centroids near its own:
the centroids are put into groups of about 128 by a small k-means of their own, and a point of a cluster in group g is
compared with the few hundred centroids nearest to the middle of g, so that one product covers all points of a group.
Groups and lists are made anew in every iteration, so a point can walk to any centroid. The last update goes to the
means, and the last assignment is exact: labels are the true nearest centroids, as those of ``lloyd``.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.kmeans.checkpoints import RunState
from strata.curation.kmeans.distance import Part, make_table, nearest_rows
from strata.curation.kmeans.lloyd import LloydResult, Pass, Weight, lloyd, repaired, scaled
from strata.curation.kmeans.match import TILE, Target
from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.sums import total_square

SMALLEST_K = 1000  # algorithm="auto" accelerates from here on,
FEWEST_ROWS = 16  # given that many rows per cluster
_GROUP = 128  # centroids of a group
_NEAR = 256, 512  # fewest and most centroids a point is compared with
_SAMPLE = 40  # rows per centroid that seeds and first iterations see
_SAMPLE_ITERATIONS = 5
_LISTS = 4096  # lists of near centroids from this k on; below, products with all centroids are as fast
_RELAXED = 1.7  # how far an update goes, from the third on
_GAIN = 1e-3  # an iteration that lowers the inertia by less than this share is the last


def pays(n: int, k: int) -> bool:
    """The rule of algorithm="auto"."""
    return k >= SMALLEST_K and n >= FEWEST_ROWS * k


def sample(points: Points, k: int, rng: np.random.Generator, weight: Weight) -> tuple[Points, Weight] | None:
    """The rows that seeds and first iterations see, with their weights; None where all rows are hardly more."""
    if points.total < 1.5 * _SAMPLE * k:
        return None
    rows = np.sort(rng.choice(points.total, _SAMPLE * k, replace=False))
    own = None if weight is None else weight[rows]
    return (
        None if own is not None and (own > 0).sum() < k else (points.subset(rows, points.group.worth(len(rows))), own)
    )


def accelerated(
    points: Points,
    seed: Callable[[Points, Weight], Float[np.ndarray, "k d"]],
    k: int,
    rng: np.random.Generator,
    *,
    n_iter: int = 50,
    tol: float = 0.0,
    weight: Weight = None,
    empty: Literal["keep", "repair"] = "keep",
    on_iteration: Callable[[], object] | None = None,
    state: RunState | None = None,
    tile: int = TILE,
) -> LloydResult:
    """As ``lloyd``, with at most ``n_iter`` updates (besides those on the sample), from ``seed(points, weight)``.

    It stops when an iteration lowers the inertia by less than 0.1 % (or ``tol`` where that is more). The inertias in
    ``history`` are those of each iteration's labels, the last one is that of the result.
    """
    begun = None if state is None else state.load(rng)
    centroids = _begin(points, seed, k, rng, n_iter, tol, weight, empty, tile) if begun is None else begun[0]
    if state is not None and begun is None:
        state.save(centroids, [], rng)
    weight, unit = scaled(weight)
    run = NearPass(points, k, weight, tile)
    centroids, history = _descend(run, centroids, rng, n_iter, tol, empty, on_iteration)
    changed = run.assign(centroids)
    history.append(run.sums.inertia(points, centroids, total_square(points, weight)))
    return LloydResult(
        centroids, run.bounds.labels, len(history) - 1, changed == 0, [value * unit for value in history]
    )


def _begin(
    points: Points,
    seed: Callable[[Points, Weight], Float[np.ndarray, "k d"]],
    k: int,
    rng: np.random.Generator,
    n_iter: int,
    tol: float,
    weight: Weight,
    empty: str,
    tile: int,
) -> Float[np.ndarray, "k d"]:
    light = sample(points, k, rng, weight)
    if light is None:
        return seed(points, weight)
    few = min(n_iter, _SAMPLE_ITERATIONS)
    run = NearPass(light[0], k, scaled(light[1])[0], tile)
    found = _descend(run, seed(*light), rng, few, tol, empty, None)[0]
    return points.share(k).part_of(found, run.share)


def _descend(
    run: "NearPass",
    centroids: Float[np.ndarray, "k d"],
    rng: np.random.Generator,
    n_iter: int,
    tol: float,
    empty: str,
    on_iteration: Callable[[], object] | None,
) -> tuple[Float[np.ndarray, "k d"], list[float]]:
    """Centroids after at most ``n_iter`` updates, the last one to the means, and the inertia before each."""
    points, k = run.points, run.k
    square = total_square(points, run.weight)
    near = k >= _LISTS and points.device.type == "cpu" and not points.shared  # lists are of all centroids
    history: list[float] = []
    going = n_iter > 0
    while going:
        changed = run.assign_near(centroids, rng) if near else run.assign(centroids)
        history.append(run.sums.inertia(points, centroids, square))
        gain = 1 - history[-1] / max(history[-2], 1e-300) if len(history) > 1 else 1.0
        going = len(history) < n_iter and changed > 0 and gain > max(_GAIN, tol)
        means = run.sums.means(points, centroids)
        centroids = _relaxed(centroids, means, points) if going and len(history) > 2 else means
        if empty == "repair" and (run.sums.masses == 0).any():
            centroids = repaired(points, centroids, run.bounds.labels, run.sums, run.weight)
        if on_iteration is not None:
            on_iteration()
    return centroids, history


def _relaxed(
    before: Float[np.ndarray, "k d"], means: Float[np.ndarray, "k d"], points: Points
) -> Float[np.ndarray, "k d"]:
    further = before.astype(np.float64) + _RELAXED * (means.astype(np.float64) - before)
    if points.metric == "cosine":
        further /= np.sqrt(np.square(further).sum(1, keepdims=True))
    relaxed: NDArray[np.floating] = further.astype(means.dtype)
    return relaxed


class NearPass(Pass):
    """A pass that can also compare points with the centroids near their own only."""

    def assign_near(self, centroids: Float[np.ndarray, "k d"], rng: np.random.Generator) -> int:
        """Label every point with the nearest of the centroids near its own; returns how many changed."""
        groups = Groups(self.points, centroids, rng, self.tile)
        changed = 0
        for start, stop in self.points.blocks():
            before = self.bounds.labels[start:stop].copy()
            self._label_near(start, stop, groups)
            changed += self.move(start, stop, before)
        self._table = None  # bounds say nothing about centroids that were not looked at
        return self.gather(changed)

    def _label_near(self, start: int, stop: int, groups: "Groups") -> None:
        x, labels = self.points.centered(start, stop), self.bounds.labels[start:stop]
        group = groups.of(x, labels, np.arange(start, stop))
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=len(groups.lists)))
        by_group = x[torch.from_numpy(order)]

        def one(number: int) -> None:
            low, high = (0 if number == 0 else ends[number - 1]), ends[number]
            if low < high:
                rows = order[low:high]
                labels[rows] = nearest_rows(
                    self.points,
                    by_group[low:high],
                    start + rows,
                    groups.whole,
                    part=groups.part(number),
                    tile=self.tile,
                ).label

        for_each(one, range(len(groups.lists)))


class Groups:
    """Groups of centroids, and for each the centroids that its points are compared with."""

    def __init__(
        self, points: Points, centroids: Float[np.ndarray, "k d"], rng: np.random.Generator, tile: int
    ) -> None:
        k = len(centroids)
        self.points, self.tile, self.whole = points, tile, make_table(points, centroids)
        count = max(1, k // _GROUP)
        small = Points(centroids, dtype="float64" if points.dtype == torch.float64 else "float32", device="cpu")
        start = centroids[np.sort(rng.choice(k, count, replace=False))]
        coarse = lloyd(small, start, n_iter=3, tile=tile)
        self.middles = make_table(points, coarse.centroids)
        self.group_of = coarse.labels
        self.lists = self._lists(small, coarse.centroids, k)
        self._parts: dict[int, Part] = {}

    def _lists(self, small: Points, middles: NDArray[np.floating], k: int) -> list[NDArray[np.int64]]:
        most = min(k, int(np.clip(k // 8, *_NEAR)))
        c = torch.from_numpy(self.whole.centered)
        index = self.whole.index
        m = torch.from_numpy(self.points.center_values(np.asarray(middles, np.float64)))
        distance = (c.square().sum(1) - 2 * m @ c.T).numpy()  # choice of lists only: rounding is of no account
        near = np.argpartition(distance, min(most, len(index)) - 1, axis=1)[:, :most]
        members = np.split(np.argsort(self.group_of[index], kind="stable"), np.cumsum(np.bincount(
            self.group_of[index], minlength=len(middles)))[:-1])  # fmt: skip
        return [np.union1d(some, own) for some, own in zip(near, members, strict=True)]

    def of(self, x: torch.Tensor, labels: Int[np.ndarray, " m"], rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Group of each row: that of its centroid, or, before it has one, that of the nearest middle."""
        if labels[0] >= 0:
            group: NDArray[np.int64] = self.group_of[labels].astype(np.int64)
            return group
        return nearest_rows(self.points, x, rows, self.middles, tile=self.tile).label.astype(np.int64)

    def part(self, number: int) -> Part:
        """The centroids of a group's list."""
        if number not in self._parts:
            rows = self.lists[number]
            self._parts[number] = Part(rows, Target(self.whole.on_device[torch.from_numpy(rows)]))
        return self._parts[number]
