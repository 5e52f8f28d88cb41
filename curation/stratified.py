"""Train-time balancing: batches drawn from a whole pool by the weights of its hierarchy, instead of from a subset."""

import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.allocation import first_of_group, grouped
from strata.curation.arguments import real_number
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.seeded_batches import SeededBatches


class WeightedBatchSampler(SeededBatches):
    """Every row of a batch drawn independently, with replacement, by given weights.

    Args:
        weights: of each row [n], not negative, some positive; e.g. ``Hierarchy.weights(temperature)``.
        batch_size, num_batches, seed, rank, world_size: see ``SeededBatches``.
    """

    def __init__(
        self,
        weights: ArrayLike,
        batch_size: int,
        *,
        num_batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(batch_size, num_batches, seed, rank, world_size)
        given = np.asarray(weights, np.float64)
        if given.ndim != 1 or not given.size or not np.isfinite(given).all() or given.min() < 0 or given.max() == 0:
            problem = f"shape {given.shape}, or some negative, not finite, or all zero"
            raise ConfigError("weights", problem, "give one weight per row [n]")
        self._rows = np.flatnonzero(given)
        self._ends = np.cumsum(given[self._rows])
        self._digest = _digest(given)

    def draw(self, rng: np.random.Generator) -> Int[np.ndarray, " b"]:
        """A global batch, int64 [batch_size]."""
        at = np.searchsorted(self._ends, rng.random(self.batch_size) * self._ends[-1], side="right")
        return self._rows[np.minimum(at, len(self._rows) - 1)]

    def settings(self) -> dict[str, Any]:
        """See ``SeededBatches``."""
        return {"weights": self._digest}


class StratifiedBatchSampler(SeededBatches):
    """Every batch spread over the top-level clusters as their weights say, and inside each over the clusters below.

    In the long run row i is drawn with the probability ``hierarchy.weights(temperature)[i]``. In each batch a top
    cluster with the share p has the floor or the ceiling of batch_size x p rows (temperature 1: the counts of all
    non-empty clusters differ by at most one; they are not all in a batch that is smaller than their number). Inside,
    the rows lie in the order of the tree, as long as their weights: one is drawn from each of as many equal stretches,
    from a random start, so that the clusters below are spread too. Memory: 16 bytes per row.

    Args:
        hierarchy: of the pool.
        batch_size, num_batches, seed, rank, world_size: see ``SeededBatches``. Each rank's part is spread as evenly.
        temperature: 0 = as the pool is, to 1 = balanced; see ``Hierarchy.weights``.
        distinct: no row twice in a batch. A cluster with fewer rows than its part gives all of them and the others
            share what is missing, so that small clusters stay below their weights.

    Raises:
        ConfigError: a setting cannot be, or a distinct batch is larger than the pool.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        batch_size: int,
        *,
        temperature: float = 1.0,
        num_batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        distinct: bool = False,
    ) -> None:
        super().__init__(batch_size, num_batches, seed, rank, world_size)
        if distinct and batch_size > hierarchy.n:
            raise ConfigError(
                "batch_size", f"{batch_size} different of {hierarchy.n} rows", "lower it, or distinct=False"
            )
        self.temperature = real_number("temperature", temperature, 0.0, 1.0)
        self.distinct = distinct
        weights = hierarchy.weights(self.temperature)
        self._rows = _tree_order(hierarchy)
        size = hierarchy.sizes(hierarchy.n_levels)
        self._size = size[size > 0]
        self._last = np.cumsum(self._size) - 1  # position of the last row of each top cluster
        self._ends = np.cumsum(weights[self._rows])
        bounds = np.concatenate([[0.0], self._ends[self._last]])
        self._low, self._share = bounds[:-1], np.diff(bounds)
        limit = self._size if distinct else np.full(len(self._size), np.inf)
        self._expected = _capped(self.batch_size, self._share, limit)
        self._digest = _digest(self._rows, weights)

    def draw(self, rng: np.random.Generator) -> Int[np.ndarray, " b"]:
        """A global batch, by top cluster (these in random order), int64 [batch_size]."""
        order = rng.permutation(len(self._expected))
        counts = _rounded(self._expected[order], self.batch_size, rng)
        order, counts = order[counts > 0], counts[counts > 0]
        cluster = np.repeat(order, counts)
        stretch = np.arange(len(cluster)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = np.repeat(rng.random(len(counts)), counts)
        place = (stretch + start + rng.random(len(cluster))) / np.repeat(counts, counts) % 1.0
        at = np.searchsorted(self._ends, self._low[cluster] + place * self._share[cluster], side="right")
        first = self._last[cluster] - self._size[cluster] + 1
        at = np.clip(at, first, self._last[cluster])  # sums of floats may be off at the borders
        if self.distinct:
            at = self._without_repeats(at, cluster, order, counts, rng)
        return self._rows[at]

    def settings(self) -> dict[str, Any]:
        """See ``SeededBatches``."""
        return {"temperature": self.temperature, "distinct": self.distinct, "hierarchy": self._digest}

    def _without_repeats(
        self,
        at: NDArray[np.int64],
        cluster: NDArray[np.int64],
        order: NDArray[np.int64],
        counts: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """The positions, drawn again without replacement (by weight, one after another) in clusters with a repeat."""
        ordered = np.sort(at)
        repeated = ordered[1:][np.diff(ordered) == 0]
        again = np.isin(order, np.unique(np.searchsorted(self._last, repeated)))
        if not again.any():
            return at
        size = self._size[order[again]]
        group = np.repeat(np.arange(len(size)), size)
        position = np.arange(len(group)) + np.repeat(self._last[order[again]] + 1 - np.cumsum(size), size)
        weight = np.diff(self._ends, prepend=0.0)[position]
        # Exponential arrival times: the first k of rates w are k draws without replacement by weight.
        arrival = rng.exponential(size=len(group)) / np.maximum(weight, np.finfo(float).tiny)
        drawn = first_of_group(group, np.argsort(arrival, kind="stable"), counts[again])
        result = at.copy()
        result[np.isin(cluster, order[again])] = position[drawn]
        return result


def _tree_order(hierarchy: Hierarchy) -> Int[np.ndarray, " n"]:
    """Rows such that those of each cluster of each level lie side by side."""
    leaves = np.arange(hierarchy.n_clusters[0])
    ancestors = [hierarchy.ancestors(leaves, level) for level in range(1, hierarchy.n_levels + 1)]
    place = np.empty(len(leaves), np.int64)
    place[np.lexsort(ancestors)] = leaves  # the last key, the top level, decides first
    return grouped(place[hierarchy.labels(1)], np.arange(hierarchy.n), len(leaves))[0]


def _capped(total: int, share: Float[np.ndarray, " k"], limit: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """min(limit, x * share) for the x at which they add up to ``total`` (at most the sum of the limits)."""
    expected = np.zeros(len(share))
    is_open = np.ones(len(share), bool)
    while True:
        left = total - limit[~is_open].sum()
        expected[is_open] = left * share[is_open] / max(share[is_open].sum(), np.finfo(float).tiny)
        over = is_open & (expected > limit)
        if not over.any():
            return expected
        expected[over] = limit[over]
        is_open &= ~over


def _rounded(expected: Float[np.ndarray, " k"], total: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """Whole numbers that add up to ``total``, each the floor or ceiling of what is expected, and that on average.

    Systematic sampling: whole numbers shifted by a random offset, counted in intervals as long as the expectations.
    """
    ends = np.cumsum(expected)
    ends[-1] = total
    whole = np.round(ends)
    ends = np.where(np.abs(ends - whole) < 1e-9 * total, whole, ends)  # 3 x (1 / 3) is 1
    return np.diff(np.floor(ends + rng.random()), prepend=0.0).astype(np.int64)


def _digest(*arrays: NDArray[Any]) -> str:
    code = 0
    for array in arrays:
        code = zlib.crc32(np.ascontiguousarray(array).data, code)
    return f"{code:08x}"
