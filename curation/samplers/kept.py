"""What a filter leaves of a pool."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from strata.curation.samplers.request import Inputs


@dataclass(frozen=True)
class Kept:
    """Rows that stay, and a table of those that go.

    Attributes:
        rows: int64, ascending.
        dropped: one line per row that goes: "row", what it is like ("match_row" of the pool, or "test_row"), and
            "similarity", their cosine.
        name: of the report: "dropped_near_duplicates".
    """

    rows: Int[np.ndarray, " m"]
    dropped: pa.Table
    name: str

    @classmethod
    def without(
        cls,
        size: int,
        rows: Int[np.ndarray, " m"],
        similarity: Float[np.ndarray, " m"],
        name: str,
        **partner: Any,
    ) -> Self:
        """All of ``size`` rows but ``rows``, each with its similarity and a column that says to what."""
        order = np.argsort(rows)
        columns = {"row": rows, **partner, "similarity": similarity}
        return cls(
            np.delete(np.arange(size), rows),
            pa.table({title: np.asarray(values)[order] for title, values in columns.items()}),
            name,
        )


class Filter(Protocol):
    """Takes rows out of a pool before a sampler draws from the rest: see ``Filtered``."""

    @property
    def needs(self) -> frozenset[str]:
        """Names of ``Inputs`` that it cannot do without."""
        ...

    def filter(self, *, size: int, random_state: int, **given: Unpack[Inputs]) -> Kept:
        """The rows of a pool of ``size`` that stay."""
        ...
