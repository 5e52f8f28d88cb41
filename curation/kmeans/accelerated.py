"""Fewer and cheaper iterations than Lloyd's for large k, and one exact assignment at the end.

The means: seeds through coarse groups ("scalable") instead of k sequential passes. Seeds and first iterations on a
sample of 40 rows per centroid, where there are many more. Over-relaxed updates: a
centroid goes 1.7 times as far as to the mean of its points, which for a factor below 2 never raises the inertia and
saves about half of the iterations. And, from 500 clusters on, a point is compared only with a few candidates: those
that looked nearest when centroids around its own were last looked at, in every third iteration (``candidates``), so
that it can walk to any centroid. The last update goes to the means, and the last assignment is exact: labels are the
true nearest centroids, as those of ``lloyd``.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from strata.curation.kmeans.candidates import Candidates, nearest_candidate
from strata.curation.kmeans.checkpoints import RunState
from strata.curation.kmeans.lloyd import LloydResult, Pass, Weight, repaired, scaled
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.sums import total_square

SMALLEST_K = 1000  # algorithm="auto" accelerates from here on,
FEWEST_ROWS = 16  # given that many rows per cluster
_SAMPLE = 40  # rows per centroid that seeds and first iterations see
_SAMPLE_ITERATIONS = 5
_LISTS = 500  # candidates from this k on; below, products with all centroids are as fast
_EVERY = 3  # candidates are chosen in the first two iterations and then in every third
_ROWS = 8192  # that a thread labels at a time
_RELAXED = 1.7  # how far an update goes, from the third on
_GAIN = 3e-4  # an iteration that lowers the inertia by less than this share is the last


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

    It stops when an iteration lowers the inertia by less than 0.03 % (or ``tol`` where that is more). The inertias in
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
    looks: list[int] = []  # iterations that looked further around
    going = n_iter > 0
    while going:
        number = len(history)
        look = not near or number < 2 or number == looks[-1] + _EVERY
        if look:
            looks.append(number)
            candidates = Candidates(points, centroids, run.bounds.labels, rng, run.tile) if near else None
        changed = run.assign(centroids) if candidates is None else run.assign_near(centroids, candidates)
        history.append(run.sums.inertia(points, centroids, square))
        enough = look and len(looks) > 1 and _gain(history, looks[-2]) <= max(_GAIN, tol)
        going = len(history) < n_iter and not enough and (changed > 0 or not look)
        means = run.sums.means(points, centroids)
        centroids = _relaxed(centroids, means, points) if going and number > 1 else means
        if empty == "repair" and (run.sums.masses == 0).any():
            centroids = repaired(points, centroids, run.bounds.labels, run.sums, run.weight)
        if on_iteration is not None:
            on_iteration()
    return centroids, history


def _gain(history: list[float], since: int) -> float:
    """Share of the inertia that an iteration has saved, on average since one of them."""
    return (1 - history[-1] / max(history[since], 1e-300)) / (len(history) - 1 - since)


def _relaxed(
    before: Float[np.ndarray, "k d"], means: Float[np.ndarray, "k d"], points: Points
) -> Float[np.ndarray, "k d"]:
    further = before.astype(np.float64) + _RELAXED * (means.astype(np.float64) - before)
    if points.metric == "cosine":
        further /= np.sqrt(np.square(further).sum(1, keepdims=True))
    relaxed: NDArray[np.floating] = further.astype(means.dtype)
    return relaxed


class NearPass(Pass):
    """A pass that can also compare points with a few candidates only."""

    def assign_near(self, centroids: Float[np.ndarray, "k d"], candidates: Candidates) -> int:
        """Label every point with the nearest of its candidates; returns how many changed."""
        c = self.points.to_device(self.points.center_values(np.asarray(centroids, np.float64))).numpy()
        changed = 0
        for start, stop in self.points.blocks():
            before = self.bounds.labels[start:stop].copy()
            near = candidates.block(start, stop)
            x, labels = self.points.centered(start, stop).numpy(), self.bounds.labels[start:stop]

            def part(low: int, x: Any = x, near: Any = near, labels: Any = labels) -> None:
                rows = slice(low, low + _ROWS)
                nearest_candidate(x[rows], c, near[rows], labels[rows])

            for_each(part, range(0, stop - start, _ROWS))
            changed += self.move(start, stop, before)
        self._table = None  # bounds say nothing about centroids that were not looked at
        return self.gather(changed)
