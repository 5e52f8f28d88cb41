"""Balanced over true labels: an oracle, the best that balancing by clusters could do."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np

from strata.curation.hierarchy import Hierarchy
from strata.curation.samplers.request import Inputs, checked_labels, checked_size
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
        **given: Unpack[Inputs],
    ) -> Selection:
        """``n`` labelled rows. Raises ConfigError if there are no labels, or n is not set or too large."""
        labels = checked_labels(given, size, "LabelBalanced")
        labelled = np.flatnonzero(labels >= 0)
        classes = Hierarchy.from_assignments([labels[labelled]])
        drawn = classes.sample(checked_size(n, len(labelled), "labelled rows"), random_state=random_state)
        return Selection.of(labelled[drawn])
