"""Centroids that are shared out: with p processes each holds k / p of them, where all k would not fit one device.

Rows stay where they are. In each pass the parts are sent round one after the other: every process compares its rows with
the part that is there and keeps the nearest so far, and the sums of a part are added up on the process that holds it. So
no process (and no GPU) ever has more than its own part and the visiting one, and what travels is what an all-reduce of
[k, d] would send. Parts are compared by exact distances, so the labels are those of one table of all centroids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.kmeans.group import ALONE, Group

Sharding = Literal["auto"] | bool
_DEVICE_BYTES = 16  # per number of a centroid on a GPU: float32 values, int64 sums, and what is made of them


@dataclass(frozen=True)
class Share:
    """Which of ``k`` centroids this process of a group holds: [k p / size, k (p + 1) / size), or all if it is alone."""

    k: int
    group: Group = ALONE

    def span(self, rank: int) -> tuple[int, int]:
        """First and last + 1 of the centroids of a process."""
        return self.k * rank // self.group.size, self.k * (rank + 1) // self.group.size

    @property
    def own(self) -> slice:
        """Those of this process."""
        return slice(*self.span(self.group.rank))

    @property
    def is_whole(self) -> bool:
        """Whether this process holds all of them."""
        return self.group.size == 1

    def spans(self) -> list[tuple[int, int]]:
        """Those of each process."""
        return [self.span(rank) for rank in range(self.group.size)]

    def part_of(self, centroids: Float[np.ndarray, "s d"], held: "Share") -> Float[np.ndarray, "t d"]:
        """Those of this process, of centroids that it holds as ``held`` says: whole, or as this share does."""
        return centroids[self.own] if held.is_whole else centroids

    def gathered(self, own: Float[np.ndarray, " s"]) -> Float[np.ndarray, " k"]:
        """One number per centroid, of all; each process gives its own."""
        lengths = np.array([high - low for low, high in self.spans()])
        numbers: NDArray[np.float64] = self.group.concatenated(own, lengths)
        return numbers

    def visits(self, own: Float[np.ndarray, "s d"]) -> Iterator[tuple[int, Float[np.ndarray, "v d"]]]:
        """Every part, one after the other, with the number of its first centroid; all processes go through together."""
        for rank, (low, high) in enumerate(self.spans()):
            if high > low:
                mine = rank == self.group.rank
                yield low, self.group.from_rank(own if mine else np.empty((high - low, own.shape[1]), own.dtype), rank)

    def redistributed(self, rows: NDArray[Any], numbers: Int[np.ndarray, " m"]) -> NDArray[Any]:
        """The centroids of this process, from rows [m, d] that lie anywhere and the numbers they are to have."""
        if self.is_whole:
            return rows[np.argsort(numbers)]
        ends = np.array([high for _, high in self.spans()])
        rows, numbers = self.group.sent(np.searchsorted(ends, numbers, side="right"), rows, numbers)
        return rows[np.argsort(numbers)]


def check_sharding(sharding: Sharding) -> None:
    """Raise a ConfigError if the setting is neither true, false nor auto."""
    if not isinstance(sharding, bool) and sharding != "auto":
        raise ConfigError("hierarchy.shard_centroids", f"{sharding!r}", "use true, false or auto")


def is_shared(sharding: Sharding, k: int, d: int, group: Group, device: torch.device) -> bool:
    """Whether centroids are shared out; "auto": if they would take more than half of a GPU. The same on every process."""
    if sharding != "auto":
        return bool(sharding)
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return group.size > 1 and group.count(int(device.type == "cuda" and 2 * _DEVICE_BYTES * k * d > total)) > 0
