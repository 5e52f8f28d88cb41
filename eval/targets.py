"""Pools with a map for every image (segmentation, depth): what they are, and how their maps are read in batches."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from strata.curation.pools.base import Pool


@runtime_checkable
class DensePool(Pool, Protocol):
    """A pool whose items also have a map of the image's size.

    ``target(row)`` is uint8 or int32 [height, width] class ids (segmentation), or float32 (depth); 2-D, of one dtype.
    """

    def target(self, row: int) -> np.ndarray:
        """The map of an item. Raises UnreadableItem."""
        ...


def has_targets(pool: Pool) -> bool:
    """Whether the items have maps."""
    return hasattr(pool, "target")


class TargetView:
    """The maps of a dense pool as a pool of their own, so that they are decoded like images: in workers, in order."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __getitem__(self, row: int) -> np.ndarray:
        target: np.ndarray = self.pool.target(row)
        return target


def same(target: np.ndarray) -> np.ndarray:
    """The transform that does nothing."""
    return target
