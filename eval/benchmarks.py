"""Benchmarks: named splits of images, and what is asked about them. A protocol scores those of its task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.eval.grouped import GroupedPool
from strata.eval.labels import check_labels, check_same_classes
from strata.eval.stratify import stratified_sample
from strata.eval.targets import has_targets


@dataclass
class Benchmark:
    """Classification: labelled images to fit a probe on, and to score it on, once.

    Args:
        name: of the benchmark in tables.
        train: what probes are fitted on and their settings chosen on.
        test: what they are scored on, once.
        shifts: further test sets with the same classes, or some of them, that a head fitted on ``train`` is reused on.
        metric: the one that tables print first: "top1", or "mean_per_class" where that is the convention of the set.
        groups: columns of the test pool that name a group of each image, for accuracy by group.
        limit_train: draw at most so many training images, in the proportions of the classes; for speed.
        seed: of that draw.
        task: "classification", or "multilabel" (images of several classes, as in VOC2007).

    Raises:
        ConfigError: an empty or unlabelled pool, or a bad limit.
        DataError: labels outside the classes, or other classes in test than in train.
    """

    labelled: ClassVar[bool] = True

    name: str
    train: Pool
    test: Pool
    limit_train: int | None = None
    seed: int = 0
    shifts: Mapping[str, Pool] = field(default_factory=dict)
    metric: str = "top1"
    groups: Sequence[str] = ()
    task: Literal["classification", "multilabel"] = "classification"

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.groups:
            self.test = GroupedPool(self.test, self.groups)
        taken = {"train", "test"} & set(self.shifts)
        if taken:
            raise ConfigError("benchmark.shifts", f"one is called {sorted(taken)[0]!r}", "give it another name")
        for split, pool in self.splits.items():
            if pool is None:
                raise ConfigError(f"benchmark.{split}", "there is none", f"give the pool of the {split} split")
            check_labels(split, pool)
        check_same_classes(self.splits)
        for split, pool in self.splits.items():
            _check_candidates(split, pool)
        if self.limit_train is None:
            return
        if self.limit_train < 1:
            raise ConfigError("benchmark.limit_train", f"{self.limit_train} images", "use 1 or more, or null for all")
        if self.limit_train < len(self.train):
            rows = stratified_sample(np.asarray(self.train.labels), self.limit_train, self.seed)
            self.train = SubsetPool(self.train, rows, name=self.train.name)

    @property
    def splits(self) -> dict[str, Pool]:
        """Every split by name."""
        return {"train": self.train, "test": self.test, **self.shifts}


@dataclass
class DenseBenchmark:
    """A map for every image: class ids (segmentation), or depth in metres.

    Args:
        name: of the benchmark in tables.
        train: what the head is fitted on and its settings chosen on.
        test: what it is scored on, once.
        task: "segmentation" or "depth".
        shifts: further test sets.
        metric: the one that tables print first.

    Raises:
        ConfigError: an empty pool, one without maps, or without names of the classes (segmentation).
        DataError: other classes in test than in train.
    """

    labelled: ClassVar[bool] = False

    name: str
    train: Pool
    test: Pool
    task: Literal["segmentation", "depth"]
    shifts: Mapping[str, Pool] = field(default_factory=dict)
    metric: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.task not in ("segmentation", "depth"):
            raise ConfigError("benchmark.task", f"{self.task!r} is unknown", "use segmentation or depth")
        self.metric = self.metric or {"segmentation": "miou", "depth": "rmse"}[self.task]
        for split, pool in self.splits.items():
            if pool is None or not len(pool):
                raise ConfigError(
                    f"benchmark.{split}", "there are no images in it", f"give the pool of the {split} split"
                )
            if not has_targets(pool):
                problem = f"{pool.name} has no maps, and {self.task} needs one for every image"
                raise ConfigError(f"benchmark.{split}", problem, "use a pool of a dense layout, e.g. ade20k")
            if (self.task == "segmentation") != bool(pool.label_names):
                kind = "classes" if pool.label_names else "values"
                problem = f"the maps of {pool.name} hold {kind}, which is not what {self.task} reads"
                raise ConfigError(f"benchmark.{split}", problem, "use the layout of a set of that task")
        check_same_classes(self.splits)

    @property
    def splits(self) -> dict[str, Pool]:
        """Every split by name."""
        return {"train": self.train, "test": self.test, **self.shifts}


@dataclass
class RetrievalBenchmark:
    """Queries, a database, and which of its rows are easy, hard or junk for each query (columns of the query pool).

    Args:
        name: of the benchmark in tables.
        pools: (queries, database), as ``layouts.landmarks.revisited`` and ``retrieval_pools.by_label`` give them.
        metric: the one that tables print first.

    Raises:
        ConfigError: an empty pool, or queries that do not say what is relevant.
    """

    task: ClassVar[str] = "retrieval"
    labelled: ClassVar[bool] = False

    name: str
    pools: Any
    metric: str = "map_medium"

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.pools) != 2:
            raise ConfigError("benchmark.pools", f"{len(self.pools)} of them", "give queries and database")
        for split, pool in self.splits.items():
            if not len(pool):
                raise ConfigError(f"benchmark.{split}", f"{pool.name} has no items", "check its path")
        missing = [kind for kind in ("easy", "hard", "junk") if kind not in getattr(self.pools[0], "extra", {})]
        if missing:
            problem = f"{self.pools[0].name} does not say which images are {missing[0]}"
            raise ConfigError("benchmark.pools", problem, "use layouts.landmarks.revisited or retrieval_pools.by_label")

    @property
    def splits(self) -> dict[str, Pool]:
        """Every split by name."""
        return {"queries": self.pools[0], "database": self.pools[1]}


def _check_name(name: str) -> None:
    if not name:
        raise ConfigError("benchmark.name", "it is empty", "give the name that tables should print")


def _check_candidates(split: str, pool: Pool) -> None:
    """Labels that may be predicted, and accepted ones that are classes."""
    candidates, n_classes = getattr(pool, "candidates", None), len(pool.label_names or [])
    if candidates is not None:
        outside = np.setdiff1d(np.asarray(pool.labels), candidates)
        if len(outside):
            problem = f"class {outside[0]} is a label, but may not be predicted"
            raise DataError(f"benchmark.{split}: {problem}; correct the class map of {pool.name}")
    accepted = getattr(pool, "extra", {}).get("accepted", [])
    bad = next(
        (row for row, right in enumerate(accepted) if not right or min(right) < 0 or max(right) >= n_classes), None
    )
    if bad is not None:
        problem = f"row {bad} accepts the classes {accepted[bad]} of {n_classes}"
        raise DataError(f"benchmark.{split}: {problem}; correct the class map of {pool.name}")
