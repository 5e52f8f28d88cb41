"""Hierarchical k-means with resampling (arXiv:2405.15613, Algorithm 1), with scikit-learn's estimator surface."""

import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy, Level
from strata.curation.kmeans.checkpoints import Checkpoints
from strata.curation.kmeans.distance import assign
from strata.curation.kmeans.flat import Algorithm
from strata.curation.kmeans.group import Group
from strata.curation.kmeans.init import InitName
from strata.curation.kmeans.level import LevelFit, fit_level
from strata.curation.kmeans.memory import parse_memory
from strata.curation.kmeans.part_files import mapped
from strata.curation.kmeans.parts import nearest_of_all
from strata.curation.kmeans.points import DTypeName, Metric, Points
from strata.curation.kmeans.resample import ResampleBy
from strata.curation.kmeans.share import Sharding, Share, check_sharding, is_shared
from strata.curation.kmeans.source import as_source
from strata.curation.kmeans.two_step import Settings, spawned
from strata.curation.spread_hierarchy import save_spread

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
        init: "auto" ("scalable" where a level is accelerated, else "k-means++"), "k-means++" (greedy), "random" or
            "scalable"; one or one per level.
        algorithm: "auto", "lloyd" (exact iterations) or "accelerated"; see ``strata.curation.kmeans.flat.kmeans``.
            Labels are the exact nearest centroids in either.
        metric: "euclidean" or "cosine" (spherical k-means at every level).
        fit_fraction: share of the rows that level 1 is fitted on, drawn uniformly; all rows are then assigned.
        device: "auto", "cpu" or "cuda".
        dtype: of centroids and products; "auto" is float64 for float64 or integer X, else float32. Labels are exact
            in either.
        memory: bytes, or e.g. "1GB", that level 1 may hold of the rows; more are read anew in each pass, by blocks. None
            holds up to 8 GB.
        random_state: seed; each level and step has its own stream of it. None takes a fresh one.
        verbose: progress bars with rate and time left on stderr.
        checkpoint_dir: a folder (which all processes see) where the state is kept; a fit that was killed goes on from
            there and ends with the same bytes, also with another number of processes. None: no checkpoints.
        checkpoint_seconds: time between the states that are kept inside a run of k-means.
        shard_centroids: with several processes, each holds its part of the centroids of a level only (True); "auto":
            where all of them would take more than half of a GPU. The result is the same bytes, but for accelerated
            levels of 4,096 clusters or more on the CPU, which compare all centroids when they are shared out. Between
            levels centroids stand in a file, in ``checkpoint_dir`` or, on one machine, a temporary one.

    Where torch.distributed is initialized (by Lightning Fabric, or any way; see ``strata.curation.kmeans.group.join``)
    ``fit`` is called on all processes with the same ``X``, a memory map or store that none reads as a whole. Each works
    on its own rows; on the CPU the result is the same bytes as with one process. Centroids [k, d] are on every process,
    or, where they are shared out, mapped from that file.

    Attributes:
        hierarchy_: the tree with assignments, distances and centroids.
        cluster_centers_: level-1 centroids [k_1, d]. labels_: level-1 cluster of each row, int32 [n].
        inertia_: sum of squared distances of the rows to their level-1 centroids.
        n_iter_: Lloyd iterations of the last k-means run of level 1.
        n_features_in_: d.
        levels_: one ``LevelFit`` per level: inertia, iterations and history of each run, seconds.
        rows_: first and last + 1 of the rows of this process; ``labels_`` and ``levels_[0]`` have these only. With
            several processes there is no ``hierarchy_``: ``save``, then ``Hierarchy.load``.
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
        init: InitName | Sequence[InitName] = "auto",
        algorithm: Algorithm = "auto",
        metric: Metric = "euclidean",
        fit_fraction: float = 1.0,
        device: str = "auto",
        dtype: DTypeName = "auto",
        memory: int | str | None = None,
        random_state: int | None = 0,
        verbose: bool = True,
        checkpoint_dir: str | Path | None = None,
        checkpoint_seconds: float = 60.0,
        shard_centroids: Sharding = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.n_resamples = n_resamples
        self.resample_size = resample_size
        self.resample_by = resample_by
        self.n_splits = n_splits
        self.n_iter = n_iter
        self.tol = tol
        self.init = init
        self.algorithm = algorithm
        self.metric = metric
        self.fit_fraction = fit_fraction
        self.device = device
        self.dtype = dtype
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_seconds = checkpoint_seconds
        self.shard_centroids = shard_centroids

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
        group = Group.current()
        source = as_source(X)
        n, d = source.shape
        plan = self._plan(n)
        _check_same(group, n, d)
        points = self._points(source, group, plan[0], parse_memory(self.memory))
        self.rows_ = (points.first, points.first + points.n)
        root = np.random.SeedSequence(self.random_state if group.size == 1 else _shared_seed(group, self.random_state))
        checkpoints = self._checkpoints(points)
        self.levels_: list[LevelFit] = []
        self._tree: list[Level] = []
        self._group = group
        for number, arguments in enumerate(plan, 1):
            k = arguments["n_clusters"] * arguments["n_splits"]
            name = f"level {number}/{len(plan)}: {k} clusters"
            rows = self._fit_rows(n, root) if number == 1 and self.fit_fraction < 1 else None
            light = points if rows is None else points.subset(rows, group.worth(len(rows)))
            fitted = fit_level(
                light,
                **arguments,
                seed=spawned(root, number),
                name=name,
                verbose=self.verbose and group.rank == 0,
                checkpoints=checkpoints,
                state_name=f"level{number}",
            )
            if rows is not None:
                fitted = _assign_all(points, fitted, light.share(k))
            if number > 1:
                fitted.labels = points.group.concatenated(fitted.labels)
                fitted.squared_distances = points.group.concatenated(fitted.squared_distances)
            share = points.share(k)
            if not share.is_whole:
                folder = None if checkpoints is None else checkpoints.folder
                fitted.centroids = mapped(fitted.centroids, share, f"centroids{number}", folder)
            self.levels_.append(fitted)
            self._tree.append(_tree_level(fitted, self.metric))
            if number < len(plan):
                points = self._points(fitted.centroids, group.worth(len(fitted.centroids)), plan[number])
        lowest = self.levels_[0]
        self.cluster_centers_: Float[np.ndarray, "k d"] = lowest.centroids
        self.labels_: Int[np.ndarray, " n"] = lowest.labels
        self.inertia_ = lowest.inertia
        self.n_iter_ = lowest.n_iter[-1]
        self.n_features_in_ = d
        self.__dict__.pop("hierarchy_", None)
        if group.size == 1:
            self.hierarchy_ = Hierarchy(self._tree)
        return self

    def _points(self, X: Any, group: Group, level: Mapping[str, Any], memory: int | None = None) -> Points:
        """The inputs of a level."""
        source, device = as_source(X), resolve_device(self.device, "hierarchy.device")
        shared = is_shared(
            self.shard_centroids, level["n_clusters"] * level["n_splits"], source.shape[1], group, device
        )
        return Points(
            source, metric=self.metric, dtype=self.dtype, device=self.device, memory=memory, group=group, shared=shared
        )

    def save(
        self, path: str | Path, *, key: str = "", inputs: Mapping[str, str] | None = None, config: Any = None
    ) -> None:
        """Save the hierarchy as ``Hierarchy.save`` does; with several processes all call it, and each writes its rows.

        Raises:
            ConfigError: not fitted yet. DataError: the folder exists already.
        """
        self._check_fitted()
        n = self._group.count(len(self.labels_))
        save_spread(path, self._tree, self.rows_, n, self._group, key=key, inputs=inputs, config=config)

    def __getattr__(self, name: str) -> Any:
        if name == "hierarchy_" and "_group" in self.__dict__:
            raise AttributeError(
                f"hierarchy_: the rows are spread over {self._group.size} processes; call save(path) on all, "
                "then Hierarchy.load(path)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _check_fitted(self) -> None:
        if "cluster_centers_" not in self.__dict__:
            raise ConfigError("HierarchicalKMeans", "not fitted", "call fit(X) first")

    def _checkpoints(self, points: Points) -> Checkpoints | None:
        if self.checkpoint_dir is None:
            return None
        aside = ("checkpoint_dir", "checkpoint_seconds", "verbose", "memory", "device")
        settings = {name: value for name, value in self.get_params().items() if name not in aside}
        return Checkpoints.of_fit(
            self.checkpoint_dir, settings, points.fingerprint(), points.group, self.checkpoint_seconds
        )

    def fit_predict(self, X: Any, y: None = None) -> Int[np.ndarray, " n"]:
        """``fit`` and return the level-1 labels."""
        return self.fit(X).labels_

    def predict(self, X: Any) -> Int[np.ndarray, " m"]:
        """Level-1 cluster of new rows [m, d], int32; ``hierarchy_.ancestors(labels, level)`` gives the higher ones.

        Raises:
            ConfigError: not fitted yet, or another number of features.
        """
        self._check_fitted()
        source = as_source(X)
        if source.shape[1] != self.n_features_in_:
            raise ConfigError("X", f"{source.shape[1]} features", f"give the {self.n_features_in_} it was fitted on")
        points = Points(
            source, metric=self.metric, dtype=self.dtype, device=self.device, memory=parse_memory(self.memory)
        )
        return assign(points, self.cluster_centers_)

    def check(self, n: int) -> None:
        """Raise a ConfigError if a setting is wrong, or does not fit ``n`` rows. ``fit`` does so too."""
        self._plan(n)

    def _plan(self, n: int) -> list[dict[str, Any]]:
        """Checked arguments of ``fit_level``, level by level."""
        check_levels(self.n_clusters, n, self.n_splits)
        resolve_device(self.device, "hierarchy.device")
        if self.resample_by not in get_args(ResampleBy):
            raise ConfigError("hierarchy.resample_by", f"{self.resample_by!r} is unknown", "use closest or random")
        parse_memory(self.memory)
        check_sharding(self.shard_centroids)
        if self.algorithm not in get_args(Algorithm):
            raise ConfigError("hierarchy.algorithm", f"{self.algorithm!r}", f"use one of {get_args(Algorithm)}")
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
        if not _is_number(self.checkpoint_seconds) or not self.checkpoint_seconds >= 0:
            problem = f"{self.checkpoint_seconds!r}"
            raise ConfigError("hierarchy.checkpoint_seconds", problem, "give a number of 0 or more")
        if self.checkpoint_dir is not None and self.random_state is None:
            raise ConfigError("hierarchy.checkpoint_dir", "random_state is None", "give a seed to resume from")
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
                "settings": Settings(inits[level], self.n_iter, self.tol, self.algorithm),
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


def _check_same(group: Group, n: int, d: int) -> None:
    shapes = group.concatenated(np.array([[n, d]]))
    if (shapes != shapes[0]).any():
        given = ", ".join(str(tuple(shape)) for shape in shapes.tolist())
        raise ConfigError("X", f"the processes have arrays of {given}", "give all of them the same X, not their shares")


def _shared_seed(group: Group, random_state: int | None) -> int:
    """The seed of process 0, fresh if it is None."""
    own = np.random.SeedSequence().generate_state(1)[0] if random_state is None else random_state
    return int(group.from_rank(np.array([own], np.int64))[0])


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float | np.floating)


def _assign_all(points: Points, fitted: LevelFit, held: Share) -> LevelFit:
    """The level of a sample, with all points assigned to its centroids, which this process holds as ``held`` says."""
    share = points.share(held.k)
    fitted.centroids = share.part_of(fitted.centroids, held)
    fitted.labels, fitted.squared_distances = nearest_of_all(points, fitted.centroids, share)
    fitted.inertia = points.sum(fitted.squared_distances)
    return fitted


def _tree_level(fitted: LevelFit, metric: Metric) -> Level:
    # Of normalized rows |x - c|^2 = 2 - 2 cos.
    distance = fitted.squared_distances / 2 if metric == "cosine" else np.sqrt(fitted.squared_distances)
    return Level(fitted.labels, len(fitted.centroids), fitted.centroids, distance.astype(np.float32))
