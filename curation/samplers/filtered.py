"""Filters, then a sampler over what they leave: semdedup -> hierarchical, or any sampler on a pool without leaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import as_source
from strata.curation.restrict import SourceRows, restrict_hierarchy, restrict_values
from strata.curation.samplers.kept import Filter
from strata.curation.samplers.request import Inputs
from strata.curation.subset import Selection


@dataclass(frozen=True)
class Filtered:
    """The rows that ``sampler`` selects from a pool that never had what the filters take out.

    Labels, metadata, embeddings and the hierarchy are cut down to the surviving rows first, so that shares, quotas and
    distances to neighbours are those of the survivors. What each filter took out is in the selection's reports.

    Args:
        filters: applied in this order, each to what the one before it left.
        sampler: any sampler.

    Raises:
        ConfigError: no filters, or something that is no filter or no sampler.
    """

    filters: Sequence[Filter]
    sampler: Any

    def __post_init__(self) -> None:
        if not self.filters or not all(hasattr(part, "filter") for part in self.filters):
            raise ConfigError("sampler.filters", f"{self.filters!r}", "list filters, such as NearDuplicates")
        if not hasattr(self.sampler, "select"):
            raise ConfigError("sampler.sampler", f"{self.sampler!r}", "name a sampler to draw from what is left")

    @property
    def needs(self) -> frozenset[str]:
        """Of the filters and the sampler together."""
        return frozenset(self.sampler.needs).union(*(part.needs for part in self.filters))

    @property
    def sized(self) -> bool:
        """As the sampler."""
        sized: bool = self.sampler.sized
        return sized

    @property
    def max_repeats(self) -> int:
        """As the sampler: most copies of one row."""
        return int(getattr(self.sampler, "max_repeats", 1))

    @property
    def column(self) -> str | None:
        """As the sampler: the column of metadata that it needs."""
        column: str | None = getattr(self.sampler, "column", None)
        return column

    def select(self, n: int | None, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Selection:
        """What the sampler selects among the survivors. Raises ConfigError as the filters and the sampler do."""
        rows = np.arange(size)
        reports: dict[str, pa.Table] = {}
        for part in self.filters:
            kept = part.filter(size=len(rows), random_state=random_state, **given)
            reports[_unused(kept.name, reports)] = _in_pool(kept.dropped, rows)
            rows, given = rows[kept.rows], restricted(given, kept.rows)
        if len(rows) == 0:
            raise ConfigError("sampler.filters", f"they leave none of {size} rows", "raise their thresholds")
        chosen = self.sampler.select(n, size=len(rows), random_state=random_state, **given)
        chosen_reports = {_unused(name, reports): _in_pool(table, rows) for name, table in chosen.reports.items()}
        return Selection(rows[chosen.rows], chosen.repeats, chosen.weight, reports | chosen_reports)


def restricted(given: Inputs, rows: Int[np.ndarray, " m"]) -> Inputs:
    """The inputs of a pool that consists of these rows. Seeds and test set are as they were."""
    cut: Inputs = given.copy()
    if (hierarchy := given.get("hierarchy")) is not None and len(rows):
        cut["hierarchy"] = restrict_hierarchy(hierarchy, rows)
    if (labels := given.get("labels")) is not None:
        cut["labels"] = labels[rows]
    if (metadata := given.get("metadata")) is not None:
        cut["metadata"] = restrict_values(metadata, rows)
    if (embeddings := given.get("embeddings")) is not None:
        cut["embeddings"] = SourceRows(as_source(embeddings), rows)
    return cut


def _in_pool(report: pa.Table, rows: Int[np.ndarray, " m"]) -> pa.Table:
    """The report with the pool's own numbers of its rows."""
    for name in ("row", "match_row"):
        if name in report.column_names:
            index = report.column_names.index(name)
            report = report.set_column(index, name, pa.array(rows[report[name].to_numpy()]))
    return report


def _unused(name: str, taken: dict[str, pa.Table]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
