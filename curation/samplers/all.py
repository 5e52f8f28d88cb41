"""The whole pool, as it is."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strata.curation.hierarchy import Hierarchy
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
        hierarchy: Hierarchy | None = None,
        labels: NDArray[np.int64] | None = None,
    ) -> Selection:
        """All rows of a pool of ``size``."""
        return Selection.of(np.arange(size))
