"""Rare rows first: probability by inverse local density."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np
from jaxtyping import Float

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import Source
from strata.curation.neighbors import IndexKind, NeighborMetric, Neighbors, check_options, nearest_others
from strata.curation.samplers.inclusion import draw_systematic, proportional
from strata.curation.samplers.request import Inputs, checked_embeddings, checked_size
from strata.curation.subset import Selection


@dataclass(frozen=True)
class InverseDensity:
    """Rows with probability proportional to (mean distance to the k nearest other rows) ** power, none above 1.

    Where rows lie d-dimensionally, the density is proportional to that distance ** -d: ``power=d`` would balance space
    itself. The usual choice, 1, is milder. A row that equals its k neighbours is taken only when all others are.

    Args:
        k: neighbours.
        power: 0 is uniform.
        metric, index: see ``Neighbors``.

    Raises:
        ConfigError: an option is out of range.
    """

    k: int = 10
    power: float = 1.0
    metric: NeighborMetric = "cosine"
    index: IndexKind = "auto"

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    sized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self.metric, self.index)
        if self.k < 1:
            raise ConfigError("sampler.k", f"{self.k}", "give 1 or more neighbours")
        if not 0 <= self.power < np.inf:
            raise ConfigError("sampler.power", f"{self.power}", "give 0 or more")

    def select(self, n: int | None, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Selection:
        """``n`` rows. Raises ConfigError if there are no embeddings, k is not below ``size``, or n is not set or too large."""
        source = checked_embeddings(given, size, "InverseDensity")
        wanted = checked_size(n, size)
        if self.k >= size:
            raise ConfigError("sampler.k", f"{self.k} neighbours in a pool of {size} rows", f"use at most {size - 1}")
        probability = proportional(mean_distance(source, self.k, self.metric, self.index) ** self.power, wanted)
        rng = np.random.default_rng(random_state)
        return Selection.of(draw_systematic(probability, wanted, rng.permutation(size), rng))


def mean_distance(source: Source, k: int, metric: NeighborMetric, index: IndexKind) -> Float[np.ndarray, " n"]:
    """Mean distance of each row to its k nearest other rows, float64 [n]."""
    return nearest_others(Neighbors(source, metric, index), k).mean(axis=1)
