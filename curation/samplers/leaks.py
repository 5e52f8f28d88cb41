"""Take out of a pool what is in a test set: rows whose embedding is too like one of it (as the paper's pool, section 4.1)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import Source, as_source, take_rows
from strata.curation.neighbors import cosines, unit_rows
from strata.curation.samplers.kept import Kept
from strata.curation.samplers.request import Inputs, checked_embeddings, checked_reference
from strata.curation.shards import shard_ranges

Rule = Literal["threshold", "top1"]
TILE = 4_096  # rows of a tile of similarities, of the pool and of the test set
MARGIN = 1e-6  # float32 products find the pairs; what is this close below the threshold counts as on it


@dataclass(frozen=True)
class Leaks:
    """A filter for ``Filtered``: drops rows of the pool that are in the test set ``references.test``.

    Args:
        rule: "threshold": every row with a cosine of at least ``threshold`` to some test item. "top1": the row nearest
            to each test item, whatever its cosine is; with a threshold, only from that on.
        threshold: a cosine. It depends on the encoder: look at the reported pairs.

    Raises:
        ConfigError: an option is out of range or missing.
    """

    rule: Rule = "threshold"
    threshold: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings", "test"})

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ConfigError("sampler.rule", f"{self.rule!r} is unknown", f"use one of {get_args(Rule)}")
        if self.threshold is None and self.rule == "threshold":
            raise ConfigError("sampler.threshold", "not set", "set it, e.g. 0.95, or use rule=top1")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ConfigError("sampler.threshold", f"{self.threshold} is no cosine", "use -1 to 1, e.g. 0.95")

    def filter(self, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Kept:
        """The rows that stay; the seed is not used. Raises ConfigError if either embeddings are missing."""
        source = checked_embeddings(given, size, "Leaks")
        test = checked_reference(given.get("test"), "test", source.shape[1], "Leaks")
        by_row, by_test = nearest_across(source, test)
        rows, tests = (by_test, np.arange(len(by_test))) if self.rule == "top1" else (np.arange(size), by_row)
        similarity = np.clip(cosines(take_rows(source, rows), take_rows(test, tests)), -1.0, 1.0)
        alike = np.flatnonzero(similarity >= (-1.0 if self.threshold is None else self.threshold - MARGIN))
        alike = alike[np.lexsort((tests[alike], -similarity[alike], rows[alike]))]
        alike = alike[np.unique(rows[alike], return_index=True)[1]]  # of each row, the pair most alike
        kept = Kept.without(size, rows[alike], similarity[alike], "dropped_test_leaks", test_row=tests[alike])
        ids = getattr(given.get("test"), "ids", None)
        if ids is None:
            return kept
        names = pa.array([str(ids[row]) for row in kept.dropped["test_row"].to_pylist()], pa.string())
        return Kept(kept.rows, kept.dropped.append_column("test_id", names), kept.name)


def nearest_across(a: Any, b: Any) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The row of ``b`` [m, d] with the highest cosine to each row of ``a`` [n, d], and the other way round.

    Exhaustive, in float32 products. Both int64.
    """
    first, second = as_source(a), as_source(b)
    n, m = first.shape[0], second.shape[0]
    best_a, best_b = np.full(n, -np.inf, np.float32), np.full(m, -np.inf, np.float32)
    near_a, near_b = np.zeros(n, np.int64), np.zeros(m, np.int64)
    for right in shard_ranges(m, TILE):
        theirs = _unit_block(second, right).T
        for left in shard_ranges(n, TILE):
            cosine = _unit_block(first, left) @ theirs
            _update(best_a[left.start : left.stop], near_a[left.start : left.stop], cosine, right.start)
            _update(best_b[right.start : right.stop], near_b[right.start : right.stop], cosine.T, left.start)
    return near_a, near_b


def _unit_block(source: Source, rows: range) -> Float[np.ndarray, "r d"]:
    return unit_rows(source.read(rows.start, rows.stop), rows.start).astype(np.float32)


def _update(
    best: Float[np.ndarray, " r"], near: Int[np.ndarray, " r"], cosine: Float[np.ndarray, "r c"], first: int
) -> None:
    """Take over, in place, what a tile of cosines has that is higher; column 0 is number ``first``."""
    column = cosine.argmax(axis=1)
    highest = cosine[np.arange(len(column)), column]
    better = highest > best
    best[better], near[better] = highest[better], column[better] + first
