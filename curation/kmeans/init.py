"""Starting centroids: greedy k-means++, random rows, or seeding through coarse groups for large k."""

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.kmeans.distance import assign, squared_distances
from strata.curation.kmeans.lloyd import lloyd
from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.plus_plus import plus_plus, traced_plus_plus
from strata.curation.kmeans.points import Points

InitName = Literal["auto", "k-means++", "random", "scalable"]
Weight = Float[np.ndarray, " n"] | None
_SAMPLE_PER_GROUP = 64
_SAMPLE_ITERATIONS = 10
_TRIES = 4  # times the candidates of greedy k-means++ for each center,
_MANY = 16  # from so many groups on: a group is small then, so they are cheap
_DRAWN = 1.5  # times the centers that a group's share of the error gives it: which are kept is seen then


def initial_centroids(
    points: Points,
    k: int,
    init: InitName | Float[np.ndarray, "k d"],
    rng: np.random.Generator,
    weight: Weight = None,
) -> Float[np.ndarray, "k d"]:
    """Centroids [k, d] to start Lloyd's iterations from, in the dtype of the centroids; or this process's part of them.

    Args:
        points: the data.
        k: number of centroids, at most n.
        init: "auto": "scalable" where k-means is accelerated, else "k-means++".
            "k-means++": greedy, the reference of the paper; its work grows as k n d log k.
            "random": k different rows, uniformly (or by weight); the paper's Table 3(c) shows what it costs.
            "scalable": sqrt(k) / 2 groups are found on a sample, and k-means++ runs inside each, for a number of centers
            that follows the group's share of the squared error; its work grows as sqrt(k) n d log k. What it costs and
            what inertia it ends in: `results/benchmarks/kmeans.md`.
            An array [k, d] is used as it is.
        rng: source of all draws.
        weight: of each point, or None for equal weights.

    Raises:
        ConfigError: ``init`` is unknown or of the wrong shape.
    """
    if not isinstance(init, str):
        given = np.asarray(init)
        if given.shape != (k, points.d) or not np.isfinite(given).all():
            raise ConfigError(
                "hierarchy.init", f"array of shape {given.shape}", f"give finite centroids ({k}, {points.d})"
            )
        return given[points.share(k).own].astype(points.numpy_dtype)
    if init in ("auto", "k-means++"):
        rows = plus_plus(points, k, rng, weight)
    elif init == "random":
        rows = _random(points.total, k, rng, weight)
    elif init == "scalable":
        rows = _scalable(points, k, rng, weight)
    else:
        raise ConfigError("hierarchy.init", f"{init!r} is unknown", f"use one of {get_args(InitName)} or an array")
    return points.rows_anywhere(rows[points.share(k).own]).astype(points.numpy_dtype)


def _random(n: int, k: int, rng: np.random.Generator, weight: Weight) -> NDArray[np.int64]:
    if weight is None:
        return rng.choice(n, k, replace=False)
    heavy = np.flatnonzero(weight > 0)
    if len(heavy) < k:  # rows without weight only where there is nothing else
        rest = rng.choice(np.flatnonzero(weight <= 0), k - len(heavy), replace=False)
        return np.concatenate([heavy, rest])
    return heavy[rng.choice(len(heavy), k, replace=False, p=weight[heavy] / weight[heavy].sum())]


def _scalable(points: Points, k: int, rng: np.random.Generator, weight: Weight) -> NDArray[np.int64]:
    groups = max(1, round(k**0.5 / 2))
    sample = np.sort(rng.choice(points.total, min(points.total, groups * _SAMPLE_PER_GROUP), replace=False))
    light = points.subset(sample)
    light_weight = None if weight is None else _weight(weight[sample])
    rows = plus_plus(light, groups, rng, light_weight)
    start = light.exact_rows(rows).astype(points.numpy_dtype)
    coarse = lloyd(light, start, n_iter=_SAMPLE_ITERATIONS, weight=light_weight).centroids
    labels = assign(points, coarse)
    error = squared_distances(points, coarse, labels)
    share = points.sum_by_label(labels, error if weight is None else error * weight, groups)
    sizes = points.counts(labels, groups)
    quotas = np.minimum(sizes, np.ceil(_DRAWN * shares_to_counts(share, sizes, k)).astype(np.int64))
    streams = rng.integers(1 << 63, size=groups).tolist()  # one per group: processes share out the groups
    dealt = {group: own for group, own in points.group.deal(labels, points.first, groups).items() if quotas[group]}
    chosen: dict[int, NDArray[np.int64]] = {}
    left: dict[int, NDArray[np.float64]] = {}
    tries = (_TRIES if groups >= _MANY else 1) * (2 + int(math.log(k)))

    def seed(group: int) -> None:
        own = dealt[group]
        own_weight = None if weight is None else _weight(weight[own])
        rng = np.random.default_rng(streams[group])
        rows, sums = traced_plus_plus(points.subset(own), int(quotas[group]), rng, own_weight, tries)
        chosen[group], left[group] = own[rows], sums

    for_each(seed, dealt)  # a thread's products on one core each: groups are too small to share a product out
    rows, group_of, when = (
        points.group.concatenated(np.concatenate([np.empty(0, kind), *parts]))
        for kind, parts in (
            (np.int64, [chosen[group] for group in dealt]),
            (np.int64, [np.full(len(chosen[group]), group) for group in dealt]),
            (np.float64, [_times(left[group]) for group in dealt]),
        )
    )
    order = np.lexsort((rows, group_of, when))[:k]
    return rows[order][np.argsort(group_of[order], kind="stable")]


def _times(left: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """When k-means++ over all groups would have come to each center of one, given the sum of D^2 after each.

    It draws from a group as often as the group's sum is large: from one center to the next it takes 1 / sum.
    """
    with np.errstate(divide="ignore"):
        waits = 1 / left[:-1]
    return np.concatenate([[0.0], np.cumsum(waits)])


def _weight(weight: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Weights of a group; where all are zero, equal ones."""
    return weight if weight.any() else np.ones_like(weight)


def shares_to_counts(
    share: Float[np.ndarray, " g"], capacity: Int[np.ndarray, " g"], total: int
) -> Int[np.ndarray, " g"]:
    """Whole numbers that follow ``share``, are at most ``capacity``, at least 1 where that is, and add up to ``total``.

    ``total`` must lie between the number of non-empty groups and the sum of the capacities.
    """
    least = np.minimum(capacity, 1)
    low, high = 0.0, 1.0
    level = np.maximum(share / max(share.sum(), np.finfo(float).tiny), 1e-12) * (capacity > 0)

    def counts(factor: float) -> NDArray[np.float64]:
        return np.clip(factor * level, least, capacity)

    while counts(high).sum() < total:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if counts(middle).sum() <= total else (low, middle)
    exact = counts(low)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - int(whole.sum())
    if missing < 0:  # more non-empty groups than centers: the largest shares win
        whole = np.zeros_like(whole)
        missing = total
    room = np.flatnonzero(whole < capacity)
    first = room[np.argsort(-(exact - whole)[room] - 1e-12 * share[room], kind="stable")]
    whole[first[:missing]] += 1
    return whole
