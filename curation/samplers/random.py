"""Uniformly random rows: the equal-size control of every comparison."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np

from strata.curation.samplers.request import Inputs, checked_size
from strata.curation.subset import Selection


@dataclass(frozen=True)
class RandomRows:
    """Different rows, uniformly at random."""

    needs: ClassVar[frozenset[str]] = frozenset()
    sized: ClassVar[bool] = True

    def select(
        self,
        n: int | None,
        *,
        size: int,
        random_state: int,
        **given: Unpack[Inputs],
    ) -> Selection:
        """``n`` of ``size`` rows. Raises ConfigError (sample.size) if n is not set or too large."""
        return Selection.of(np.random.default_rng(random_state).choice(size, checked_size(n, size), replace=False))
