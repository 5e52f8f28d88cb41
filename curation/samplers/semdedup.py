"""SemDeDup (arXiv:2303.09540): inside each cluster, drop what is too like a row that comes before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Unpack, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import Source, take_rows
from strata.curation.neighbors import unit_rows
from strata.curation.samplers.kept import Kept
from strata.curation.samplers.request import Inputs, checked_embeddings, checked_hierarchy, checked_size
from strata.curation.subset import Selection

Keep = Literal["farthest", "closest"]
Against = Literal["all", "kept"]
BATCH = 65_536  # rows of whole clusters read at once
TILE = 1_024  # rows of a tile of similarities
DIGITS = 9  # of a cosine that are told apart
ROUNDING = 10.0**-DIGITS


@dataclass(frozen=True)
class SemDeDup:
    """A sampler, and a filter for ``Filtered``, that drops semantic duplicates inside clusters.

    The rows of a cluster are put in order, farthest from its centroid (lowest cosine) first, and each is scored by its
    highest cosine to a row before it. Rows that score above a threshold are dropped.

    As a sampler without threshold and fraction, the threshold is the one that leaves the size asked for: the rows with
    the lowest scores, ties broken at random. With one of them, the size asked for is drawn at random from the rest.

    Args:
        threshold: drop rows that score above this cosine: 1 - epsilon of the paper.
        fraction: share of the rows that stay: the threshold is the one that leaves them.
        level: level of the hierarchy whose clusters are used; None: the top one (few large clusters, as in the paper).
        keep: which of two duplicates stays: the one "farthest" from the centroid (the paper) or the "closest".
        against: compare with "all" rows before (the paper's code: a chain of duplicates leaves its first row only),
            or only with the "kept" ones (what is dropped is always like something that stays; needs a threshold).

    Raises:
        ConfigError: an option is out of range, or two that exclude each other.
    """

    threshold: float | None = None
    fraction: float | None = None
    level: int | None = None
    keep: Keep = "farthest"
    against: Against = "all"

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings", "hierarchy"})
    sized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ConfigError("sampler.threshold", f"{self.threshold} is no cosine", "use -1 to 1, e.g. 0.95")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError("sampler.fraction", f"{self.fraction} is no share", "use above 0, up to 1")
        if self.threshold is not None and self.fraction is not None:
            raise ConfigError("sampler.fraction", "set, and so is the threshold", "set one of them")
        if self.keep not in get_args(Keep) or self.against not in get_args(Against):
            raise ConfigError("sampler.keep", f"{self.keep!r}, against {self.against!r}", "see SemDeDup")
        if self.against == "kept" and self.threshold is None:
            raise ConfigError("sampler.threshold", "not set, but against=kept needs it", "set it, or use against=all")

    def select(self, n: int | None, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Selection:
        """``n`` rows. Raises ConfigError if something is missing, n is not set or fewer rows are left."""
        by_size = self.threshold is None and self.fraction is None
        kept = self._kept(checked_size(n, size) if by_size else None, size, random_state, given)
        rng = np.random.default_rng([random_state, 1])
        wanted = checked_size(n, len(kept.rows), "rows that are no semantic duplicates")
        chosen = Selection.of(kept.rows if by_size else rng.choice(kept.rows, wanted, replace=False))
        chosen.reports[kept.name] = kept.dropped
        return chosen

    def filter(self, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Kept:
        """The rows that stay. Raises ConfigError if something is missing, or neither threshold nor fraction is set."""
        if self.threshold is None and self.fraction is None:
            raise ConfigError("sampler.filters", "SemDeDup without threshold or fraction", "set one of them")
        return self._kept(None, size, random_state, given)

    def _kept(self, n: int | None, size: int, random_state: int, given: Inputs) -> Kept:
        source = checked_embeddings(given, size, "SemDeDup")
        hierarchy = checked_hierarchy(given, size, "SemDeDup")
        labels = hierarchy.labels(hierarchy.n_levels if self.level is None else self.level)
        limit = self.threshold if self.against == "kept" else None
        score, match = duplicate_scores(source, labels, self.keep, limit)
        if self.threshold is not None:
            dropped = np.flatnonzero(score > self.threshold)
        else:
            stay = n if self.fraction is None else int(np.ceil(round(self.fraction * size, 6)))
            chance = np.random.default_rng(random_state).permutation(size)
            dropped = np.sort(np.lexsort((chance, score))[stay:])
        return Kept.without(size, dropped, score[dropped], "dropped_semdedup", match_row=match[dropped])


def duplicate_scores(
    source: Source, labels: Int[np.ndarray, " n"], keep: Keep, limit: float | None = None
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Highest cosine of each row to one before it in its cluster, and which: float64 [n] (-1: it is first), int64 [n].

    Scores are rounded to 9 digits, so that equal rows score the same whatever products they come from. With a
    ``limit``, rows that score above it do not count for the ones after them.
    """
    score, match = np.full(len(labels), -1.0), np.full(len(labels), -1, np.int64)
    for rows, vectors in _clusters(source, labels):
        toward = vectors @ _unit_mean(vectors)
        order = np.lexsort((rows, np.round(toward if keep == "farthest" else -toward, DIGITS)))
        rows, vectors = rows[order], vectors[order]
        alive = np.ones(len(rows), bool)
        for start in range(0, len(rows), TILE):
            stop = min(start + TILE, len(rows))
            columns = np.concatenate([np.flatnonzero(alive[:start]), np.arange(start, stop)])
            cosine = vectors[start:stop] @ vectors[columns].T
            inside = cosine[:, len(columns) - (stop - start) :]  # a view: the tile's rows with each other
            inside[np.triu(np.ones_like(inside, bool))] = -2.0  # itself and those after it
            if limit is not None:
                over = (cosine[:, : -inside.shape[1]] > limit + ROUNDING / 2).any(axis=1)
                dropped = _drop_in_turn(inside > limit + ROUNDING / 2, over)
                inside[:, dropped] = -2.0
                alive[start:stop] = ~dropped
            best = cosine.argmax(axis=1)
            highest = np.round(cosine[np.arange(stop - start), best], DIGITS)
            found = highest > -2.0
            score[rows[start:stop][found]] = highest[found]
            match[rows[start:stop][found]] = rows[columns[best[found]]]
    return score, match


def _drop_in_turn(like: NDArray[np.bool_], dropped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows to drop, in turn, that are ``like`` one before them [t, t] that is not dropped; some are so from the start."""
    dropped = dropped.copy()
    like[:, dropped] = False
    for row in np.flatnonzero(like.any(axis=1) & ~dropped).tolist():
        if like[row].any():
            dropped[row] = True
            like[:, row] = False
    return dropped


def _clusters(source: Source, labels: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Rows and unit vectors of each cluster of two or more, several read at a time."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    start = 0
    while start < len(order):
        last = max(np.searchsorted(ends, start + BATCH, side="right") - 1, np.searchsorted(ends, start, side="right"))
        rows = order[start : ends[last]]
        vectors = unit_rows(take_rows(source, rows))
        bounds = np.flatnonzero(np.diff(labels[rows])) + 1
        for first, end in zip([0, *bounds.tolist()], [*bounds.tolist(), len(rows)], strict=True):
            if end - first > 1:
                yield rows[first:end], vectors[first:end]
        start = int(ends[last])


def _unit_mean(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction of the mean (the centroid of spherical k-means); zero if they cancel out."""
    mean = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length else mean
