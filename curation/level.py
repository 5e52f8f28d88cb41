"""One level of a hierarchy, and what has to hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.errors import ConfigError, DataError

MOST_CLUSTERS = np.iinfo(np.int32).max  # labels are stored as int32


@dataclass
class Level:
    """One level: which of its ``n_clusters`` clusters each item of the level below (level 1: each row) is in."""

    assignment: Int[np.ndarray, " m"]  # int32 in [0, n_clusters)
    n_clusters: int
    centroids: Float[np.ndarray, "k d"] | None = None
    distance: Float[np.ndarray, " m"] | None = None  # float32, of each item to its centroid (cosine: 1 - cos)

    @cached_property
    def order(self) -> Int[np.ndarray, " m"]:
        """Items by cluster, closest first inside (lowest item on ties; in order where there are no distances)."""
        keys = (self.assignment,) if self.distance is None else (self.distance, self.assignment)
        return np.lexsort(keys)

    @cached_property
    def offsets(self) -> Int[np.ndarray, " k1"]:
        """Cluster i holds ``order[offsets[i]:offsets[i + 1]]``. int64 [k + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.assignment, minlength=self.n_clusters))])


def check_level(level: Level, number: int, below: int | None) -> None:
    """Raise a DataError unless level ``number`` is whole, and has an item for each of ``below`` clusters.

    Args:
        level: what to check.
        number: 1 is the lowest.
        below: clusters of the level below; None for level 1.
    """
    items = len(level.assignment)
    problem = ""
    if level.assignment.ndim != 1 or items == 0:
        problem = f"assignment of shape {level.assignment.shape}"
    elif level.assignment.dtype.kind not in "iu":
        problem = f"assignment of {level.assignment.dtype}"
    elif below is not None and items != below:
        problem = f"{items} items, but level {number - 1} has {below} clusters"
    elif level.assignment.min() < 0 or level.assignment.max() >= level.n_clusters:
        problem = f"labels outside 0 to {level.n_clusters - 1}"
    elif level.n_clusters > MOST_CLUSTERS:
        problem = f"{level.n_clusters} clusters, more than {MOST_CLUSTERS}"
    elif level.distance is not None and level.distance.shape != (items,):
        problem = f"{level.distance.shape} distances for {items} items"
    elif level.distance is not None and not np.isfinite(level.distance).all():
        problem = "distances that are not finite"
    elif level.centroids is not None and len(level.centroids) != level.n_clusters:
        problem = f"{len(level.centroids)} centroids for {level.n_clusters} clusters"
    if problem:
        raise DataError(f"level {number} of the hierarchy has {problem}; cluster again")


def levels_of(
    assignments: Sequence[ArrayLike],
    distances: Sequence[ArrayLike] | None,
    centroids: Sequence[ArrayLike] | None,
) -> list[Level]:
    """Levels from arrays made elsewhere; see ``Hierarchy.from_assignments``."""
    arrays = [_assignment(assignment, number) for number, assignment in enumerate(assignments, 1)]
    levels = []
    for index, array in enumerate(arrays):
        k = len(arrays[index + 1]) if index + 1 < len(arrays) else int(array.max()) + 1
        # Before the cast: int32 would wrap a larger label silently.
        if array.min() < 0 or array.max() >= k or k > MOST_CLUSTERS:
            raise DataError(
                f"level {index + 1}: labels {array.min()} to {array.max()} for {min(k, MOST_CLUSTERS)} clusters; "
                "use 0 to k - 1"
            )
        middle = _given("centroids", centroids, index, len(arrays), (k, None))
        distance = _given("distances", distances, index, len(arrays), (len(array),))
        levels.append(
            Level(
                array.astype(np.int32),
                k,
                middle,
                None if distance is None else checked_distances(distance, len(array), f"distances[{index}]"),
            )
        )
    return levels


def checked_distances(values: ArrayLike, items: int, field: str = "distances") -> Float[np.ndarray, " m"]:
    """``values`` as float32 [items].

    Raises:
        ConfigError: another shape, no numbers, or NaN or infinite values.
    """
    array = _numbers(field, values)
    if array.shape != (items,):
        raise ConfigError(field, f"shape {array.shape} for {items} items", "give one distance per item")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        first = int(np.flatnonzero(~np.isfinite(single))[0])
        raise ConfigError(field, f"item {first} has {array[first]}", "give finite distances (float32)")
    return single


def _assignment(values: ArrayLike, number: int) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"level {number}: rows of different lengths are no assignment; give integers [n]") from error
    if array.dtype.kind not in "iu" or array.ndim != 1 or len(array) == 0:
        raise DataError(f"level {number}: {array.dtype} {array.shape} is no assignment; give integers [n]")
    return array


def _given(
    field: str, values: Sequence[ArrayLike] | None, index: int, depth: int, shape: tuple[int | None, ...]
) -> NDArray[Any] | None:
    """The array of one level, if arrays were given; checked but for its values."""
    if values is None:
        return None
    if len(values) != depth:
        raise ConfigError(field, f"{len(values)} arrays for {depth} levels", "give one per level")
    name = f"{field}[{index}]"
    array = _numbers(name, values[index])
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("d" if want is None else str(want) for want in shape)
        raise ConfigError(name, f"shape {array.shape}", f"give an array of [{wanted}]")
    return array


def _numbers(field: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ConfigError(field, "has rows of different lengths", "give an array of numbers") from error
    if array.dtype.kind not in "fiu":
        raise ConfigError(field, f"dtype {array.dtype}", "give real numbers")
    return array
