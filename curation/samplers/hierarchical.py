"""Balanced over the clusters of a hierarchy: the paper's method (section 1.4)."""

from dataclasses import dataclass
from typing import ClassVar, Unpack, get_args

from strata.curation.drawing import Within
from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Allocation
from strata.curation.samplers.request import Inputs, checked_hierarchy, checked_size
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
        **given: Unpack[Inputs],
    ) -> Selection:
        """``n`` rows. Raises ConfigError if there is no hierarchy of this pool, or n is not set or too large."""
        hierarchy = checked_hierarchy(given, size, "HierarchicalRows")
        wanted = checked_size(n, size * self.max_repeats, "rows (with repeats)")
        return Selection.of(hierarchy.sample(wanted, self.allocation, self.within, self.max_repeats, random_state))
