"""Balanced over the clusters of a hierarchy: the paper's method (section 1.4)."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from strata.curation.drawing import Within
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Allocation, Hierarchy
from strata.curation.samplers.request import checked_size
from strata.curation.subset import Selection


@dataclass(frozen=True)
class HierarchicalRows:
    """Rows shared evenly among clusters, top down; with a one-level hierarchy it is flat k-means balancing.

    Args:
        allocation, within, max_repeats: see ``Hierarchy.sample``.
    """

    allocation: Allocation = "hierarchical"
    within: Within = "random"
    max_repeats: int = 1

    def __post_init__(self) -> None:
        """Check the settings, whose fields are ``sampler.<name>``."""
        for name, choices in (("allocation", get_args(Allocation)), ("within", get_args(Within))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"sampler.{name}", f"{getattr(self, name)!r}", f"use one of {', '.join(choices)}")
        repeats = self.max_repeats
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ConfigError("sampler.max_repeats", f"{repeats!r}", "use a whole number of 1 or more")

    needs: ClassVar[frozenset[str]] = frozenset({"hierarchy"})
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
        """``n`` rows. Raises ConfigError if there is no hierarchy of this pool, or n is not set or too large."""
        if hierarchy is None:
            raise ConfigError("sampler", "HierarchicalRows needs a hierarchy", "set hierarchy=... for this arm")
        if hierarchy.n != size:
            raise ConfigError("sampler", f"a hierarchy of {hierarchy.n} rows for a pool of {size}", "cluster this pool")
        wanted = checked_size(n, size * self.max_repeats, "rows (with repeats)")
        return Selection.of(hierarchy.sample(wanted, self.allocation, self.within, self.max_repeats, random_state))
