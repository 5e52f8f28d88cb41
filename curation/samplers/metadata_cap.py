"""Balanced over metadata: at most t items for each entry (CLIP's and MetaCLIP's curation, arXiv:2309.16671)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np
from jaxtyping import Float

from strata.curation.errors import ConfigError
from strata.curation.samplers.inclusion import draw_systematic
from strata.curation.samplers.matching import Matches, match_labels, match_tags, match_words
from strata.curation.samplers.request import Inputs, checked_labels, checked_size
from strata.curation.subset import Selection


@dataclass(frozen=True)
class MetadataCap:
    """Rows by the metadata entries that they match: an entry with c matches takes each with probability min(1, t / c).

    A row is in the subset if one of its entries takes it, each on its own: 1 - prod(1 - min(1, t / c)), as in
    MetaCLIP; one that matches no entry never is. MetaCLIP fixes t (20,000 for 400 M pairs); here t is the one that
    gives the size asked for. Rows are drawn with these very probabilities, spread over the entries: of rows that
    match one entry each, an entry with more than t gives t rounded down or up.

    Args:
        column: column of the pool with a tag, a list of tags or a text per row; None: the labels of the pool.
        entries: look for these in the texts of ``column``, word by word in any case; None: every tag is an entry.

    Raises:
        ConfigError: entries without a column.
    """

    column: str | None = None
    entries: Sequence[str] | None = None

    sized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.entries is not None and self.column is None:
            raise ConfigError("sampler.column", "not set, but entries are", "name the column to find them in")

    @property
    def needs(self) -> frozenset[str]:
        """Labels, or the column."""
        return frozenset({"labels" if self.column is None else "metadata"})

    def select(self, n: int | None, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Selection:
        """``n`` rows that match an entry. Raises ConfigError if there is no metadata, or n is not set or too large."""
        matches = self._matches(size, given)
        items = np.unique(matches.item)
        wanted = checked_size(n, len(items), "rows that match a metadata entry")
        probability = capped(matches, size, find_cap(matches, size, wanted))
        rng = np.random.default_rng(random_state)
        order = items[np.lexsort((rng.permutation(len(items)), _rarest(matches, size)[items]))]
        return Selection.of(order[draw_systematic(probability[order], wanted, np.arange(len(order)), rng)])

    def _matches(self, size: int, given: Inputs) -> Matches:
        if self.column is None:
            return match_labels(checked_labels(given, size, "MetadataCap"))
        metadata = given.get("metadata")
        if metadata is None or len(metadata) != size:
            problem = "none" if metadata is None else f"of {len(metadata)} rows for a pool of {size}"
            raise ConfigError("sampler.column", f"metadata {problem}", f"give column {self.column!r} of this pool")
        return match_tags(metadata) if self.entries is None else match_words(metadata, self.entries)


def capped(matches: Matches, size: int, cap: float) -> Float[np.ndarray, " n"]:
    """Probability of each of ``size`` items to be taken by an entry, at most ``cap`` expected of each: float64 [n]."""
    count = np.bincount(matches.entry, minlength=matches.n_entries)
    share = np.minimum(1.0, cap / np.maximum(count, 1))
    with np.errstate(divide="ignore"):  # an entry that takes all: log 0, and its items are sure
        missed = np.bincount(matches.item, np.log1p(-share)[matches.entry], minlength=size)
    return -np.expm1(missed)


def find_cap(matches: Matches, size: int, n: int) -> float:
    """The cap t at which ``n`` of ``size`` items are expected, by bisection: the number grows with t."""
    low, high = 0.0, float(np.bincount(matches.entry, minlength=1).max())
    if n == len(np.unique(matches.item)):
        return high
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if capped(matches, size, middle).sum() < n else (low, middle)
    return high


def _rarest(matches: Matches, size: int) -> Float[np.ndarray, " n"]:
    """Rank of the rarest entry of each item, the rarest first; items without one last."""
    count = np.bincount(matches.entry, minlength=matches.n_entries)
    rank = np.empty(matches.n_entries)
    rank[np.argsort(count, kind="stable")] = np.arange(matches.n_entries)
    found = np.full(size, np.inf)
    np.minimum.at(found, matches.item, rank[matches.entry])
    return found
