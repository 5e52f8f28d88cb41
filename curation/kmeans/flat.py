"""Flat k-means with restarts: the building block of every level (paper section 3.2), and of use on its own."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.accelerated import accelerated, pays
from strata.curation.kmeans.checkpoints import RunState
from strata.curation.kmeans.init import InitName, initial_centroids
from strata.curation.kmeans.lloyd import LloydResult, lloyd
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.memory import parse_memory
from strata.curation.kmeans.parts import distances_to_own
from strata.curation.kmeans.points import DTypeName, Metric, Points, as_points

Algorithm = Literal["auto", "lloyd", "accelerated"]
Seed = int | np.random.SeedSequence | None


@dataclass
class KMeansResult:
    """A clustering: every point has the label of its nearest centroid."""

    centroids: Float[np.ndarray, "k d"]  # float32, or float64 if the dtype is; this process's part where shared out
    labels: Int[np.ndarray, " n"]  # int32
    squared_distances: Float[np.ndarray, " n"]  # float64, to the centroid of its label (cosine: of normalized rows)
    inertia: float  # weighted sum of the squared distances
    n_iter: int
    converged: bool
    history: list[float]  # inertia after the initial assignment and after each update


def kmeans(
    X: Any,
    n_clusters: int,
    *,
    init: InitName | Float[np.ndarray, "k d"] = "k-means++",
    n_init: int = 1,
    n_iter: int = 50,
    tol: float = 0.0,
    metric: Metric = "euclidean",
    sample_weight: ArrayLike | None = None,
    algorithm: Algorithm = "lloyd",
    empty: Literal["keep", "repair"] = "keep",
    dtype: DTypeName = "auto",
    device: str = "auto",
    memory: int | str | None = None,
    random_state: Seed = 0,
    on_iteration: Callable[[], object] | None = None,
    state: RunState | None = None,
    tile: int = TILE,
    warn: bool = True,
) -> KMeansResult:
    """Cluster the rows of ``X`` [n, d] into ``n_clusters``; the best of ``n_init`` starts by inertia.

    Args:
        X: ndarray, memmap, tensor, embedding store, or ``Points`` (then metric, dtype and device are its own).
        n_clusters: k, at most n.
        init: see ``initial_centroids``.
        n_init: number of starts, each from another seed.
        algorithm: "lloyd": exact iterations. "accelerated": see ``strata.curation.kmeans.accelerated``. "auto":
            accelerated from 1,000 clusters on if there are 16 rows or more per cluster.
        n_iter, tol, empty, on_iteration, state, tile: see ``lloyd``.
        metric: "euclidean", or "cosine" for spherical k-means: rows and centroids are normalized.
        sample_weight: non-negative weight of each row [n].
        dtype: of centroids and products; labels are exact in either. device: "auto", "cpu", "cuda".
        memory: bound of what is held of the rows, bytes or e.g. "1GB"; see ``Points``.
        random_state: the same seed gives the same bytes (on the CPU for any number of threads); None is a fresh one.
        warn: say so when there are empty clusters.

    Raises:
        ConfigError: a setting is out of range, e.g. more clusters than rows.
        DataError: NaN or infinite values; or weights that are negative, not finite, all zero or beyond 1e+-100.
    """
    points = as_points(X, metric=metric, dtype=dtype, device=device, memory=parse_memory(memory))
    _check(points.total, n_clusters, n_init, n_iter, tol, empty)
    if algorithm not in get_args(Algorithm):
        raise ConfigError("hierarchy.algorithm", f"{algorithm!r} is unknown", f"use one of {get_args(Algorithm)}")
    if state is not None and n_init > 1:
        raise ConfigError("n_init", f"{n_init} starts of a resumable run", "use 1")
    weight = None if sample_weight is None else _checked_weight(sample_weight, points.n)
    root = random_state if isinstance(random_state, np.random.SeedSequence) else np.random.SeedSequence(random_state)
    best: LloydResult | None = None
    for start in range(n_init if isinstance(init, str) else 1):
        rng = np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, start)))
        run = _run(
            points, n_clusters, init, rng, algorithm=algorithm, n_iter=n_iter, tol=tol, weight=weight, empty=empty,
            on_iteration=on_iteration, state=state, tile=tile,
        )  # fmt: skip
        if best is None or run.history[-1] < best.history[-1]:
            best = run
    assert best is not None
    distance = distances_to_own(points, best.centroids, points.share(n_clusters), best.labels)
    inertia = points.sum(distance if weight is None else distance * weight)
    if warn:
        warn_of_empty(points.counts(best.labels, n_clusters))
    return KMeansResult(best.centroids, best.labels, distance, inertia, best.n_iter, best.converged, best.history)


def _run(
    points: Points,
    k: int,
    init: InitName | Float[np.ndarray, "k d"],
    rng: np.random.Generator,
    *,
    algorithm: Algorithm,
    **options: Any,
) -> LloydResult:
    quick = algorithm == "accelerated" or (algorithm == "auto" and pays(points.total, k))
    how = ("scalable" if quick else "k-means++") if isinstance(init, str) and init == "auto" else init
    if quick and options["n_iter"]:
        return accelerated(points, lambda rows, own: initial_centroids(rows, k, how, rng, own), k, rng, **options)
    state = options["state"]
    begun = None if state is None else state.load()
    centroids = initial_centroids(points, k, how, rng, options["weight"]) if begun is None else begun[0]
    if state is not None and begun is None:
        state.save(centroids, [])
    return lloyd(points, centroids, k=k, **options)


def warn_of_empty(counts: Int[np.ndarray, " k"], name: str = "k-means") -> None:
    """Warn if not every cluster has points."""
    k, distinct = len(counts), int((counts > 0).sum())
    if distinct < k:
        warnings.warn(
            f"{name} found {distinct} distinct clusters of the {k} asked for: the others are empty "
            "(fewer distinct points than clusters, or a poor init)",
            RuntimeWarning,
            stacklevel=3,
        )


def _check(n: int, k: int, n_init: int, n_iter: int, tol: float, empty: str) -> None:
    if k < 1:
        raise ConfigError("hierarchy.n_clusters", f"{k} is not a number of clusters", "use 1 or more")
    if k > n:
        raise ConfigError("hierarchy.n_clusters", f"{k} clusters for {n} rows", f"use at most {n}")
    if n_init < 1:
        raise ConfigError("n_init", f"{n_init} starts", "use 1 or more")
    if n_iter < 0:
        raise ConfigError("hierarchy.n_iter", f"{n_iter} is negative", "use 0 or more")
    if not tol >= 0:
        raise ConfigError("hierarchy.tol", f"{tol} is not a tolerance", "use 0 or more")
    if empty not in ("keep", "repair"):
        raise ConfigError("empty", f"{empty!r} is unknown", "use keep or repair")


def _checked_weight(weight: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(weight, np.float64)
    if values.shape != (n,):
        raise ConfigError("sample_weight", f"shape {values.shape} for {n} rows", "give one weight per row")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise DataError("sample_weight must be finite, non-negative and not all zero; check the weights")
    if not 1e-100 <= values.max() <= 1e100:
        raise DataError(f"sample_weight is up to {values.max():.1e}; scale the weights to about 1")
    return values
