"""The whole pool, balanced while it is trained on: nothing is left out, and every batch is spread over the clusters."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np

from strata.curation.arguments import real_number
from strata.curation.samplers.request import Inputs, checked_hierarchy
from strata.curation.subset import Selection


@dataclass(frozen=True)
class StratifiedRows:
    """Every row, with the weight that it has in training; the number asked for is ignored.

    A trainer that gets such a selection draws its batches by ``strata.curation.stratified.StratifiedBatchSampler``.

    Args:
        temperature: 0: as the pool is, to 1: balanced; see ``Hierarchy.weights``.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the setting."""
        real_number("sampler.temperature", self.temperature, 0.0, 1.0)

    needs: ClassVar[frozenset[str]] = frozenset({"hierarchy"})
    sized: ClassVar[bool] = False
    draws_batches: ClassVar[bool] = True

    def select(
        self,
        n: int | None,
        *,
        size: int,
        random_state: int,
        **given: Unpack[Inputs],
    ) -> Selection:
        """All rows of a pool of ``size``. Raises ConfigError if there is no hierarchy of this pool."""
        hierarchy = checked_hierarchy(given, size, "StratifiedRows")
        return Selection(np.arange(size), np.ones(size, np.int32), hierarchy.weights(self.temperature))
