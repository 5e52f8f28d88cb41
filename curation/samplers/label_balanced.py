"""Balanced over true labels: an oracle, the best that balancing by clusters could do."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.samplers.request import checked_size
from strata.curation.subset import Selection


@dataclass(frozen=True)
class LabelBalanced:
    """As many random rows of each class, all of a class that has fewer; rows without a label are left out."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    sized: ClassVar[bool] = True

    def select(
        self,
        n: int | None,
        *,
        size: int,
        random_state: int,
        hierarchy: Hierarchy | None = None,
        labels: NDArray[np.int64] | None = None,
    ) -> Selection:
        """``n`` labelled rows. Raises ConfigError if there are no labels, or n is not set or too large."""
        if labels is None or not (labels >= 0).any():
            raise ConfigError("sampler", "LabelBalanced needs labels and this pool has none", "use another sampler")
        if len(labels) != size:
            raise ConfigError("sampler", f"{len(labels)} labels for a pool of {size} rows", "give those of this pool")
        labelled = np.flatnonzero(labels >= 0)
        classes = Hierarchy.from_assignments([labels[labelled]])
        drawn = classes.sample(checked_size(n, len(labelled), "labelled rows"), random_state=random_state)
        return Selection.of(labelled[drawn])
