"""What is known of a pool, for some of its rows only."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.hierarchy import Hierarchy, Level
from strata.curation.kmeans.source import Source, take_rows


class SourceRows:
    """The given rows of a source, read when they are asked for."""

    def __init__(self, source: Source, rows: Int[np.ndarray, " m"]) -> None:
        self._source, self._rows = source, np.asarray(rows, np.int64)
        self.shape: tuple[int, int] = (len(self._rows), source.shape[1])

    def read(self, start: int, stop: int) -> Float[np.ndarray, "b d"]:
        """Rows ``start`` to ``stop`` of these, a copy."""
        return take_rows(self._source, self._rows[start:stop])

    def take(self, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b d"]:
        """The given ones of these, in the given order."""
        return take_rows(self._source, self._rows[rows])


def restrict_hierarchy(hierarchy: Hierarchy, rows: Int[np.ndarray, " m"]) -> Hierarchy:
    """The tree over some of its rows: row i of the new one is ``rows[i]``. Clusters keep their numbers; some get empty.

    Quotas, sizes and weights of it are those of a pool that never had the other rows.
    """
    lowest = hierarchy.levels[0]
    distance = None if lowest.distance is None else lowest.distance[rows]
    below = Level(lowest.assignment[rows], lowest.n_clusters, lowest.centroids, distance)
    return Hierarchy([below, *hierarchy.levels[1:]])


def restrict_values(values: Any, rows: Int[np.ndarray, " m"]) -> Any:
    """Values per row (an array, or any sequence) at the given rows."""
    if isinstance(values, np.ndarray):
        taken: NDArray[Any] = values[rows]
        return taken
    return [values[row] for row in rows.tolist()]
