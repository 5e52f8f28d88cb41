"""A benchmark: labelled images to fit a probe on, and labelled images to score it on."""

from dataclasses import dataclass

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.eval.labels import check_labels, check_same_classes
from strata.eval.stratify import stratified_sample


@dataclass
class Benchmark:
    """Two pools with the same classes.

    Args:
        name: of the benchmark in tables.
        train: what probes are fitted on and their settings chosen on.
        test: what they are scored on, once.
        limit_train: draw at most so many training images, in the proportions of the classes; for speed.
        seed: of that draw.

    Raises:
        ConfigError: an empty or unlabelled pool, or a bad limit.
        DataError: labels outside the classes, or other classes in test than in train.
    """

    name: str
    train: Pool
    test: Pool
    limit_train: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("benchmark.name", "it is empty", "give the name that tables should print")
        check_labels("train", self.train)
        check_labels("test", self.test)
        check_same_classes({"train": self.train, "test": self.test})
        if self.limit_train is None:
            return
        if self.limit_train < 1:
            raise ConfigError("benchmark.limit_train", f"{self.limit_train} images", "use 1 or more, or null for all")
        if self.limit_train < len(self.train):
            rows = stratified_sample(np.asarray(self.train.labels), self.limit_train, self.seed)
            self.train = SubsetPool(self.train, rows, name=self.train.name)
