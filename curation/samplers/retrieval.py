"""Nearest neighbours of a seed set, as LVD-142M of DINOv2 was made (arXiv:2304.07193, section 3)."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import take_rows
from strata.curation.neighbors import IndexKind, NeighborMetric, Neighbors, check_options
from strata.curation.samplers.request import (
    Inputs,
    checked_embeddings,
    checked_labels,
    checked_reference,
    checked_size,
)
from strata.curation.subset import Selection

FIRST_NEIGHBORS = 16  # fewest found at first for each seed; a seed that needs more searches again


@dataclass(frozen=True)
class Retrieval:
    """Round after round, each seed takes its nearest row that none has taken, until there are enough.

    Args:
        seeds_per_label: None: the seeds are another set (``references.seeds``). A number: this many random rows of
            each label of the pool itself, all of a label that has fewer; a seed never retrieves itself, but others may.
        metric, index: see ``Neighbors``.

    Raises:
        ConfigError: an option is out of range.
    """

    seeds_per_label: int | None = None
    metric: NeighborMetric = "cosine"
    index: IndexKind = "auto"

    sized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self.metric, self.index)
        if self.seeds_per_label is not None and self.seeds_per_label < 1:
            raise ConfigError("sampler.seeds_per_label", f"{self.seeds_per_label}", "give 1 or more, or null")

    @property
    def needs(self) -> frozenset[str]:
        """Embeddings, and seeds or the labels to draw them by."""
        return frozenset({"embeddings", "seeds" if self.seeds_per_label is None else "labels"})

    def select(self, n: int | None, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Selection:
        """``n`` rows. Raises ConfigError if embeddings or seeds are missing, or n is not set or too large."""
        source = checked_embeddings(given, size, "Retrieval")
        rng = np.random.default_rng(random_state)
        if self.seeds_per_label is None:
            seeds = checked_reference(given.get("seeds"), "seeds", source.shape[1], "Retrieval")
            own = np.full(seeds.shape[0], -1)
        else:
            own = seed_rows(checked_labels(given, size, "Retrieval"), self.seeds_per_label, random_state)
            seeds = source
        wanted = checked_size(n, size - (1 if len(own) == 1 and own[0] >= 0 else 0), "rows that a seed can retrieve")
        order = rng.permutation(len(own))[:wanted]  # a round in which all are served needs no more seeds
        queries = take_rows(seeds, order if self.seeds_per_label is None else own[order])
        neighbors = Neighbors(source, self.metric, self.index, len(queries))
        return Selection.of(round_robin(neighbors, queries, own[order], wanted))


def seed_rows(labels: Int[np.ndarray, " n"], per_label: int, random_state: int) -> Int[np.ndarray, " m"]:
    """``per_label`` random rows of each label, all of one that has fewer."""
    labelled = np.flatnonzero(labels >= 0)
    found, classes = np.unique(labels[labelled], return_inverse=True)
    sizes = np.minimum(np.bincount(classes, minlength=len(found)), per_label)
    shuffled = np.random.default_rng([random_state, 1]).permutation(len(labelled))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    counts = np.bincount(classes, minlength=len(found))
    rank = np.arange(len(labelled)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(labelled[by_class[rank < np.repeat(sizes, counts)]])


def round_robin(
    neighbors: Neighbors, queries: Float[np.ndarray, "m d"], own: Int[np.ndarray, " m"], n: int
) -> list[int]:
    """``n`` different rows in the order in which the queries, turn by turn, take their nearest one that is free.

    Args:
        neighbors: index of the rows.
        queries: the seeds, in their turn.
        own: the row that each seed is, which it may not take; -1 if none.
        n: how many rows; not more than the seeds can reach.
    """
    size = neighbors.source.shape[0]
    k = min(size, max(FIRST_NEIGHBORS, 2 * -(-n // max(len(queries), 1))))
    whole = k == size and neighbors.exact
    lists = [Ranking(rows, whole) for rows in neighbors.search(queries, k)[1].tolist()] if n else []
    taken, selves = bytearray(size), own.tolist()
    chosen: list[int] = []
    while len(chosen) < n:
        for seed, ranking in enumerate(lists):
            if len(chosen) == n:
                break
            row = _nearest_free(ranking, taken, selves[seed])
            while row < 0 and not ranking.whole:  # all that it knows are taken: look further
                k = min(size, 4 * len(ranking.rows))
                found = neighbors.search(queries[seed : seed + 1], k, everywhere=True)[1][0]
                ranking = lists[seed] = Ranking(found.tolist(), whole=k == size)
                row = _nearest_free(ranking, taken, selves[seed])
            if row >= 0:
                taken[row] = 1
                chosen.append(row)
    return chosen


@dataclass
class Ranking:
    """Rows nearest to a seed, nearest first, and how many of them have been looked at."""

    rows: list[int]
    whole: bool  # whether these are all rows of the pool
    position: int = 0


def _nearest_free(ranking: Ranking, taken: bytearray, own: int) -> int:
    """The next row of the ranking that is neither taken nor the seed itself; -1 if there is none."""
    for position in range(ranking.position, len(ranking.rows)):
        row = ranking.rows[position]
        if row >= 0 and row != own and not taken[row]:
            ranking.position = position + 1
            return row
    ranking.position = len(ranking.rows)
    return -1
