"""Hierarchical k-means with resampling (arXiv:2405.15613, Algorithm 1), with scikit-learn's estimator surface."""

import inspect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Self, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy, Level
from strata.curation.kmeans.distance import assign, squared_distances
from strata.curation.kmeans.group import Group
from strata.curation.kmeans.init import InitName
from strata.curation.kmeans.level import LevelFit, fit_level
from strata.curation.kmeans.points import DTypeName, Metric, Points
from strata.curation.kmeans.resample import ResampleBy
from strata.curation.kmeans.source import as_source
from strata.curation.kmeans.two_step import Settings, spawned

_FIT_STREAM = 1 << 20  # spawn key of the draw of fit_fraction, beyond any level


class HierarchicalKMeans:
    """Levels of k-means, each on the unweighted centroids of the one below: centroids spread evenly over the data.

    Args:
        n_clusters: clusters of each level, level 1 (on the data) first.
        n_resamples: resampling-clustering runs after the first k-means of a level; one number or one per level.
            (The large-scale configs of the paper's code count the first run too: their N is N - 1 here.)
        resample_size: points kept per cluster in a resampling step, about half the mean cluster size; one or one
            per level.
        resample_by: "closest" to the centroid (the paper) or "random".
        n_splits: on a level with s > 1, k-means makes ``n_clusters`` clusters, then each is split in s by its own
            k-means: the level has n_clusters * s clusters. One number or one per level.
        n_iter: most Lloyd iterations of each k-means; it stops earlier when no label changes.
        tol: see ``strata.curation.kmeans.lloyd.lloyd``.
        init: "k-means++" (greedy), "random" or "scalable"; one or one per level.
        metric: "euclidean" or "cosine" (spherical k-means at every level).
        fit_fraction: share of the rows that level 1 is fitted on, drawn uniformly; all rows are then assigned.
        device: "auto", "cpu" or "cuda".
        dtype: of centroids and products; "auto" is float64 for float64 or integer X, else float32. Labels are exact
            in either.
        random_state: seed; each level and step has its own stream of it. None takes a fresh one.
        verbose: progress bars with rate and time left on stderr.

    Attributes:
        hierarchy_: the tree with assignments, distances and centroids.
        cluster_centers_: level-1 centroids [k_1, d]. labels_: level-1 cluster of each row, int32 [n].
        inertia_: sum of squared distances of the rows to their level-1 centroids.
        n_iter_: Lloyd iterations of the last k-means run of level 1.
        n_features_in_: d.
        levels_: one ``LevelFit`` per level: inertia, iterations and history of each run, seconds.
    """

    def __init__(
        self,
        n_clusters: Sequence[int],
        *,
        n_resamples: int | Sequence[int] = 10,
        resample_size: int | Sequence[int] = 2,
        resample_by: ResampleBy = "closest",
        n_splits: int | Sequence[int] = 1,
        n_iter: int = 50,
        tol: float = 0.0,
        init: InitName | Sequence[InitName] = "k-means++",
        metric: Metric = "euclidean",
        fit_fraction: float = 1.0,
        device: str = "auto",
        dtype: DTypeName = "auto",
        random_state: int | None = 0,
        verbose: bool = True,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_resamples = n_resamples
        self.resample_size = resample_size
        self.resample_by = resample_by
        self.n_splits = n_splits
        self.n_iter = n_iter
        self.tol = tol
        self.init = init
        self.metric = metric
        self.fit_fraction = fit_fraction
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name (scikit-learn's protocol: ``clone`` works)."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change settings by name; returns self."""
        for name, value in params.items():
            if name not in inspect.signature(type(self)).parameters:
                raise ConfigError(f"hierarchy.{name}", "no such setting", f"use one of {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"HierarchicalKMeans({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def fit(self, X: Any, y: None = None) -> Self:
        """Build the hierarchy of the rows of ``X`` [n, d]: ndarray, memmap, torch.Tensor or EmbeddingStore.

        Raises:
            ConfigError: a setting is wrong; the message names it.
            DataError: NaN or infinite values (or, with metric="cosine", rows of zeros); names the first rows.
        """
        source = as_source(X)
        n = source.shape[0]
        plan = self._plan(n)
        points = Points(source, metric=self.metric, dtype=self.dtype, device=self.device)
        root = np.random.SeedSequence(self.random_state)
        self.levels_: list[LevelFit] = []
        tree: list[Level] = []
        for number, arguments in enumerate(plan, 1):
            name = f"level {number}/{len(plan)}: {arguments['n_clusters'] * arguments['n_splits']} clusters"
            rows = self._fit_rows(n, root) if number == 1 and self.fit_fraction < 1 else None
            fitted = fit_level(
                points if rows is None else points.subset(rows),
                **arguments,
                seed=spawned(root, number),
                name=name,
                verbose=self.verbose,
            )
            if rows is not None:
                fitted = _assign_all(points, fitted)
            self.levels_.append(fitted)
            tree.append(_tree_level(fitted, self.metric))
            points = Points(fitted.centroids, metric=self.metric, dtype=self.dtype, device=self.device)
        self.hierarchy_ = Hierarchy(tree)
        lowest = self.levels_[0]
        self.cluster_centers_: Float[np.ndarray, "k d"] = lowest.centroids
        self.labels_: Int[np.ndarray, " n"] = lowest.labels
        self.inertia_ = lowest.inertia
        self.n_iter_ = lowest.n_iter[-1]
        self.n_features_in_ = source.shape[1]
        return self

    def fit_predict(self, X: Any, y: None = None) -> Int[np.ndarray, " n"]:
        """``fit`` and return the level-1 labels."""
        return self.fit(X).labels_

    def predict(self, X: Any) -> Int[np.ndarray, " m"]:
        """Level-1 cluster of new rows [m, d], int32; ``hierarchy_.ancestors(labels, level)`` gives the higher ones.

        Raises:
            ConfigError: not fitted yet, or another number of features.
        """
        if not hasattr(self, "hierarchy_"):
            raise ConfigError("HierarchicalKMeans", "not fitted", "call fit(X) first")
        source = as_source(X)
        if source.shape[1] != self.n_features_in_:
            raise ConfigError("X", f"{source.shape[1]} features", f"give the {self.n_features_in_} it was fitted on")
        return assign(Points(source, metric=self.metric, dtype=self.dtype, device=self.device), self.cluster_centers_)

    def check(self, n: int) -> None:
        """Raise a ConfigError if a setting is wrong, or does not fit ``n`` rows. ``fit`` does so too."""
        self._plan(n)

    def _plan(self, n: int) -> list[dict[str, Any]]:
        """Checked arguments of ``fit_level``, level by level."""
        check_levels(self.n_clusters, n, self.n_splits)
        resolve_device(self.device, "hierarchy.device")
        if self.resample_by not in get_args(ResampleBy):
            raise ConfigError("hierarchy.resample_by", f"{self.resample_by!r} is unknown", "use closest or random")
        if self.metric not in get_args(Metric):
            raise ConfigError("hierarchy.metric", f"{self.metric!r} is unknown", f"use one of {get_args(Metric)}")
        if self.dtype not in get_args(DTypeName):
            raise ConfigError("hierarchy.dtype", f"{self.dtype!r} is unknown", f"use one of {get_args(DTypeName)}")
        if not _is_whole(self.n_iter) or self.n_iter < 1:
            raise ConfigError("hierarchy.n_iter", f"{self.n_iter!r}", "give a whole number of 1 or more")
        if not _is_number(self.tol) or not self.tol >= 0:
            raise ConfigError("hierarchy.tol", f"{self.tol!r}", "give a number of 0 or more")
        if self.random_state is not None and not (_is_whole(self.random_state) and self.random_state >= 0):
            raise ConfigError("hierarchy.random_state", f"{self.random_state!r}", "give a whole number >= 0, or None")
        k, depth = self.n_clusters, len(self.n_clusters)
        splits = per_level("n_splits", self.n_splits, depth, least=1)
        resamples = per_level("n_resamples", self.n_resamples, depth, least=0)
        sizes = per_level("resample_size", self.resample_size, depth, least=1)
        single = isinstance(self.init, str) or not isinstance(self.init, Iterable)
        inits: list[Any] = [self.init] * depth if single else list(self.init)
        if len(inits) != depth or any(init not in get_args(InitName) for init in inits):
            raise ConfigError("hierarchy.init", f"{self.init!r}", f"use one of {get_args(InitName)}, or one per level")
        if not _is_number(self.fit_fraction) or not 0 < self.fit_fraction <= 1:
            raise ConfigError("hierarchy.fit_fraction", f"{self.fit_fraction!r} is no share", "use above 0, up to 1")
        if self._n_fit(n) < k[0] * splits[0]:
            problem = f"{self.fit_fraction} of {n} rows is fewer than the {k[0] * splits[0]} clusters of level 1"
            raise ConfigError("hierarchy.fit_fraction", problem, "raise it, or lower n_clusters")
        return [
            {
                "n_clusters": int(k[level]),
                "n_splits": splits[level],
                "n_resamples": resamples[level],
                "resample_size": sizes[level],
                "resample_by": self.resample_by,
                "settings": Settings(inits[level], self.n_iter, self.tol),
            }
            for level in range(depth)
        ]

    def _n_fit(self, n: int) -> int:
        return int(np.ceil(round(self.fit_fraction * n, 6)))

    def _fit_rows(self, n: int, root: np.random.SeedSequence) -> NDArray[np.int64]:
        rng = np.random.default_rng(spawned(root, _FIT_STREAM))
        return np.sort(rng.choice(n, self._n_fit(n), replace=False))


def check_levels(n_clusters: Sequence[int], n: int, n_splits: int | Sequence[int] = 1) -> None:
    """Raise a ConfigError unless every level has fewer clusters than the one below, and level 1 at most n.

    The clusters of a level are ``n_clusters * n_splits``.
    """
    field = "hierarchy.n_clusters"
    if isinstance(n_clusters, int | str) or not hasattr(n_clusters, "__len__") or len(n_clusters) == 0:
        raise ConfigError(field, f"{n_clusters!r}", "give one number per level, level 1 first, e.g. [3000, 1000, 300]")
    if any(not _is_whole(k) or k < 1 for k in n_clusters):
        raise ConfigError(field, f"{list(n_clusters)}", "give whole numbers of 1 or more")
    splits = per_level("n_splits", n_splits, len(n_clusters), least=1)
    totals = [int(k) * split for k, split in zip(n_clusters, splits, strict=True)]
    if any(above >= below for below, above in itertools.pairwise(totals)):
        raise ConfigError(field, f"levels of {totals} clusters", "each level needs fewer than the one below it")
    if totals[0] > n:
        raise ConfigError(field, f"{totals[0]} clusters on level 1 for {n} rows", f"use at most {n}")


def per_level(name: str, value: int | Sequence[int], depth: int, least: int) -> list[int]:
    """One whole number per level, of ``least`` or more; a single number stands for all levels."""
    values = [value] * depth if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if len(values) != depth:
        raise ConfigError(f"hierarchy.{name}", f"{len(values)} values for {depth} levels", "give one, or one per level")
    if any(not _is_whole(item) or item < least for item in values):
        raise ConfigError(f"hierarchy.{name}", f"{value!r}", f"use whole numbers of {least} or more")
    return [int(item) for item in values]


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float | np.floating)


def _assign_all(points: Points, fitted: LevelFit) -> LevelFit:
    """The level of a sample, with all points assigned to its centroids."""
    fitted.labels = assign(points, fitted.centroids)
    fitted.squared_distances = squared_distances(points, fitted.centroids, fitted.labels)
    fitted.inertia = float(fitted.squared_distances.sum())
    return fitted


def _tree_level(fitted: LevelFit, metric: Metric) -> Level:
    # Of normalized rows |x - c|^2 = 2 - 2 cos.
    distance = fitted.squared_distances / 2 if metric == "cosine" else np.sqrt(fitted.squared_distances)
    return Level(fitted.labels, len(fitted.centroids), fitted.centroids, distance.astype(np.float32))
