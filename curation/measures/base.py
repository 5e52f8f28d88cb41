"""What a measure without training gets, and what it gives: numbers, and columns per class for a figure."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Measured:
    """The points that stand for a pool, and the pool."""

    points: Float[np.ndarray, "m d"]  # float64: centroids, rows of a subset, or all rows
    labels: Int[np.ndarray, " n"]  # int64, point of each row of the pool, -1 for none
    data: Float[np.ndarray, "n d"]  # float64: embeddings of the pool
    classes: Int[np.ndarray, " n"] | None  # class of each row, -1 for none
    n_classes: int
    seed: int
    rows: Int[np.ndarray, " m"] | None = None  # row of the pool that each point is; None where points are no rows


@dataclass(frozen=True)
class Findings:
    """Numbers by name, and equally long columns for figures."""

    values: dict[str, float]
    columns: dict[str, Any] = field(default_factory=dict)


class Measure(Protocol):
    """A number of a clustering or subset that needs no training. ``VERSION`` is raised when its meaning changes."""

    VERSION: int
    needs_rows: bool  # it measures chosen rows, not centroids
    metrics: tuple[str, ...]  # names of the values

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError if the pool does not fit the measure."""
        ...
