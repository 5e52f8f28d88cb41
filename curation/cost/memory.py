"""Bytes that a step holds at its peak, beside the user's own array and the libraries."""

from dataclasses import dataclass

from strata.curation.cost.steps import FEW, GROUP, LISTS, NEAR, batch_size, tries
from strata.curation.kmeans.init import InitName
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.points import CACHE_BYTES, STEP
from strata.curation.kmeans.source import BLOCK

FIXED = 64 << 20  # buffers of threads and what the allocator keeps
_PER_ROW = 48  # labels, two bounds and their temporaries, the float64 distance
_PRODUCT_ROWS = 4096  # rows of one 8-bit product, see kmeans.candidates
_SORT_PER_ROW = 40  # keys, order, rank


@dataclass(frozen=True)
class Chunks:
    """How rows are gone through."""

    block: int  # rows of a block
    cached: bool  # the centered copy stays in memory; else every pass reads and centers the rows again
    tile: tuple[int, int]  # rows x centroids of one tile of products
    batch: int  # candidates of k-means++ at once; 0 where there are none


def is_cached(n: float, d: int, itemsize: int) -> bool:
    """Whether the engine keeps the centered copy of so many rows in memory."""
    return n * d * itemsize <= CACHE_BYTES


def chunks(n: float, d: int, k: float, itemsize: int, init: InitName) -> Chunks:
    """Chunk sizes of a k-means of n points in k clusters."""
    width = int(min(k, 2048, max(256, TILE // 256)))
    height = int(max(16, min(TILE // width, 8192, n)))
    batch = int(batch_size(n, k)) if init == "k-means++" else 0
    return Chunks(int(min(n, BLOCK)), is_cached(n, d, itemsize), (height, width), batch)


def points(n: float, d: int, itemsize: int) -> float:
    """Centered rows (all, or a block at a time) and the float64 step they are made in."""
    rows = n if is_cached(n, d, itemsize) else 2 * min(n, BLOCK)
    return rows * d * itemsize + 3 * min(n, STEP) * d * 8


def centroids(k: float, d: int, itemsize: int) -> float:
    """Tables before and after an update (exact, centered, in the dtype of products and screens), sums and means."""
    return k * d * (2 * (16 + itemsize + 4) + 8 + 3 * 8 + 2 * itemsize)


def plus_plus(n: float, d: int, k: float) -> float:
    """Distances of this batch and the last to all rows, those of a center's candidates twice; of a block, on the grid."""
    batch = batch_size(n, k)
    return (2 * batch + 2 * tries(k) + 4) * n * 8 + min(n, BLOCK) * (batch + 2 * d) * 8


def seeding(init: InitName, n: float, d: int, k: float, itemsize: int) -> float:
    """The init beside the points."""
    if init == "random":
        return n * 8 + k * d * 8
    if init == "k-means++":
        return plus_plus(n, d, k) + k * d * 8
    groups = max(1.0, round(k**0.5))
    own = n / groups
    inside = plus_plus(own, d, max(1.0, k / groups)) + points(own, d, itemsize) + own * d * 8
    return n * _SORT_PER_ROW + centroids(groups, d, itemsize) + inside + k * d * 8


def iterations(n: float, d: int, k: float, itemsize: int, threads: int) -> float:
    """Lloyd beside the points."""
    return n * _PER_ROW + centroids(k, d, itemsize) + threads * TILE * 8


def candidates(n: float, d: int, k: float, threads: int) -> float:
    """What the accelerated algorithm holds beside that: candidates, their order, products of 8 bits, lists of centroids."""
    if k < LISTS:
        return 0.0
    listed = min(k, NEAR + GROUP)
    return n * FEW * 4 + min(n, BLOCK) * 24 + threads * _PRODUCT_ROWS * listed * 4 + k / GROUP * listed * (d + 8)


def grouping(n: float) -> float:
    """Rows sorted by label."""
    return n * _SORT_PER_ROW
