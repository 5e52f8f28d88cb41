"""Take near duplicates out of a pool: of rows with a cosine at or above a threshold, the first stays."""

from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import numpy as np
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import take_rows
from strata.curation.neighbors import IndexKind, Neighbors, check_options, cosines
from strata.curation.samplers.kept import Kept
from strata.curation.samplers.request import Inputs, checked_embeddings

QUERIES = 1_024  # rows compared with all others at once


@dataclass(frozen=True)
class NearDuplicates:
    """A filter for ``Filtered``: rows in order, each stays unless its cosine to one that stays is at the threshold.

    Args:
        threshold: cosine from which two rows are duplicates. It depends on the encoder: look at the reported pairs.
        index: see ``Neighbors``. An inverted file may miss a pair near the threshold; "exact" misses none.

    Raises:
        ConfigError: an option is out of range.
    """

    threshold: float
    index: IndexKind = "auto"

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    def __post_init__(self) -> None:
        check_options("cosine", self.index)
        if not -1 < self.threshold <= 1:
            raise ConfigError("sampler.threshold", f"{self.threshold} is no cosine", "use up to 1, e.g. 0.95")

    def filter(self, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Kept:
        """The rows that stay; the seed is not used. Raises ConfigError if there are no embeddings."""
        source = checked_embeddings(given, size, "NearDuplicates")
        match, similarity = find_near_duplicates(source, self.threshold, self.index)
        dropped = np.flatnonzero(match >= 0)
        return Kept.without(size, dropped, similarity[dropped], "dropped_near_duplicates", match_row=match[dropped])


def find_near_duplicates(
    X: Any, threshold: float, index: IndexKind = "auto"
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each row of X [n, d] to drop, the first row that stays and is like it, and their cosine.

    Returns:
        int64 [n], -1 where the row stays; float64 [n], cosine in [threshold, 1], NaN where the row stays.
    """
    neighbors = Neighbors(X, "cosine", index)
    source = neighbors.source
    n = source.shape[0]
    match, similarity = np.full(n, -1, np.int64), np.full(n, np.nan)
    for start in range(0, n, QUERIES):
        rows = start + np.flatnonzero(match[start : start + QUERIES] < 0)
        if not len(rows):
            continue
        queries = take_rows(source, rows)
        query, near = neighbors.within(queries, threshold)
        later = near > rows[query]
        query, near = query[later], near[later]
        cosine = np.minimum(cosines(queries[query], take_rows(source, near)), 1.0)
        alike = cosine >= threshold - 1e-9  # equal rows have a cosine of 1, but for rounding
        query, near, cosine = query[alike], near[alike], cosine[alike]
        starts = np.searchsorted(query, np.arange(len(rows) + 1))
        for number in np.unique(query).tolist():
            if match[rows[number]] >= 0:  # dropped by a row before it in this block
                continue
            span = slice(starts[number], starts[number + 1])
            free = match[near[span]] < 0
            match[near[span][free]], similarity[near[span][free]] = rows[number], cosine[span][free]
    return match, similarity
