"""A labeled pool thinned out to a long tail."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool


class LongTailPool(SubsetPool):
    """The pool with class sizes ``max(min_per_class, floor(top * rank^-alpha))``, ranks 1..C.

    The classes (those with at least one item) get their ranks by a seeded shuffle. ``top`` is as large as the data
    allow: the smallest ``available * rank^alpha`` over the classes, and at most ``max_per_class``. The items of a class
    are drawn without replacement; unlabeled items (-1) are left out; the pool's order is kept.

    Args:
        pool: a pool with labels.
        alpha: exponent of the law; 0 = balanced, 1 = Zipf.
        min_per_class: floor of the tail.
        seed: of ranks and draws.
        max_per_class: size of the largest class at most.
        name: defaults to ``<pool>-lt<alpha>``.

    Attributes:
        class_rank: int64 [n_classes], 1 = head, 0 = class without items.

    Raises:
        ConfigError: no labels; alpha < 0; a class with fewer than ``min_per_class`` items; limits that contradict.
    """

    def __init__(
        self,
        pool: Pool,
        alpha: float,
        min_per_class: int = 1,
        seed: int = 0,
        max_per_class: int | None = None,
        name: str | None = None,
    ) -> None:
        labels = pool.labels
        if labels is None or not (labels >= 0).any():
            raise ConfigError("pool.pool", f"{pool.name!r} has no labels", "a long tail needs a labeled pool")
        if not alpha >= 0:
            raise ConfigError("pool.alpha", f"is {alpha}", "give 0 (balanced) or more")
        if min_per_class < 1 or (max_per_class is not None and max_per_class < min_per_class):
            problem = f"is {min_per_class} with pool.max_per_class={max_per_class}"
            raise ConfigError("pool.min_per_class", problem, "give 1 <= min_per_class <= max_per_class")
        available = np.bincount(labels[labels >= 0])
        present = np.flatnonzero(available)
        if available[present].min() < min_per_class:
            worst = present[available[present].argmin()]
            problem = f"is {min_per_class}, but class {worst} has {available[worst]} items"
            raise ConfigError("pool.min_per_class", problem, f"give at most {available[worst]}")
        rng = np.random.default_rng(seed)
        order = rng.permutation(present)  # order[r - 1] = the class of rank r
        sizes = tail_sizes(available[order], alpha, min_per_class, max_per_class)
        drawn = [rng.permutation(np.flatnonzero(labels == c))[:size] for c, size in zip(order, sizes, strict=True)]
        super().__init__(pool, np.sort(np.concatenate(drawn)), name or f"{pool.name}-lt{alpha:g}")
        self.class_rank: NDArray[np.int64] = np.zeros(len(available), dtype=np.int64)
        self.class_rank[order] = np.arange(1, len(order) + 1)
        self._law = {"alpha": alpha, "min_per_class": min_per_class, "seed": seed, "max_per_class": max_per_class}

    def column(self, name: str) -> NDArray[Any]:
        """As the pool's; "class_rank" is the rank of each item's class in this tail, 1 = head."""
        if name == "class_rank":
            assert self.labels is not None
            return self.class_rank[self.labels]
        return super().column(name)

    def describe(self) -> dict[str, Any]:
        """The pool taken from and the law."""
        return {"reader": "long_tail", "pool": self._pool.describe(), "n": len(self), **self._law}


def tail_sizes(
    available: NDArray[np.int64], alpha: float, min_per_class: int, max_per_class: int | None
) -> NDArray[np.int64]:
    """Class sizes by rank [C] for the items available at each rank [C]: the largest power law that fits under them."""
    law = np.arange(1, len(available) + 1, dtype=np.float64) ** -alpha
    top = float((available / law).min())
    if max_per_class is not None:
        top = min(top, float(max_per_class))
    # the nudge undoes rounding where top * law should be a whole number
    sizes = np.floor(top * law * (1 + 1e-12)).astype(np.int64)
    return np.maximum(sizes, min_per_class)
