"""What a measure without training gets, and what it gives: numbers, and columns per class for a figure."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from strata.curation.hierarchy import Hierarchy


@dataclass(frozen=True)
class Measured:
    """The points that stand for a pool, and the pool."""

    points: Float[np.ndarray, "m d"]  # float64: centroids, rows of a subset, or all rows
    labels: Int[np.ndarray, " n"]  # int64, point of each row of the pool, -1 for none
    data: Float[np.ndarray, "n d"]  # float64: embeddings of the pool; [n, 0] for a measure that needs the tree
    classes: Int[np.ndarray, " n"] | None  # class of each row, -1 for none
    n_classes: int
    seed: int
    rows: Int[np.ndarray, " m"] | None = None  # row of the pool that each point is; None where points are no rows
    hierarchy: Hierarchy | None = None  # whose top centroids the points are, for a measure that needs the tree
    reference: Float[np.ndarray, "r d"] | None = None  # float64: embeddings of a labelled set, for one that needs it
    reference_classes: Int[np.ndarray, " r"] | None = None  # class of each of its rows, -1 for none


@dataclass(frozen=True)
class Findings:
    """Numbers by name, and equally long columns for figures."""

    values: dict[str, float]
    columns: dict[str, Any] = field(default_factory=dict)


class Measure(Protocol):
    """A number of a clustering or subset that needs no training. ``VERSION`` is raised when its meaning changes."""

    VERSION: int
    needs_rows: bool  # it measures chosen rows, not centroids
    needs_tree: bool  # it measures the tree of clusters (it has ``level``) and reads no embeddings of the pool
    needs_reference: bool  # it compares with a labelled set: ``references.labelled``
    metrics: tuple[str, ...]  # names of the values

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError if the pool does not fit the measure."""
        ...
