"""The whole pool, as it is."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np

from strata.curation.samplers.request import Inputs
from strata.curation.subset import Selection


@dataclass(frozen=True)
class AllRows:
    """Every row once; the number asked for is ignored."""

    needs: ClassVar[frozenset[str]] = frozenset()
    sized: ClassVar[bool] = False  # whether the size and the seed change what is selected

    def select(
        self,
        n: int | None,
        *,
        size: int,
        random_state: int,
        **given: Unpack[Inputs],
    ) -> Selection:
        """All rows of a pool of ``size``."""
        return Selection.of(np.arange(size))
