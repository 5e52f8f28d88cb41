"""The few centroids that a point is compared with between two passes that look further around.

Centroids are put into groups of about 128 by a small k-means of their own. A point of a cluster in group g is compared,
by products of 8 bits, with the two thousand centroids nearest to the middle of g; the 8 that look nearest are its
candidates for the next iterations, in which only distances to them are computed. The 8-bit products are whole numbers,
so the choice is the same for any tile, thread or process.
"""

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.kmeans.distance import make_table, nearest_rows
from strata.curation.kmeans.grids import integer_products
from strata.curation.kmeans.lloyd import lloyd
from strata.curation.kmeans.match import TILE
from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.source import BLOCK

_GROUP = 128  # centroids of a group
_NEAR = 2048  # centroids of a list, besides those of the group itself
_FEW = 8  # candidates of a point
_ROWS = 4096  # rows of one product
_LANES = 64  # minima of so many columns at a time
_LOOSE = {"nnan", "nsz", "reassoc", "contract"}


class Candidates:
    """Candidates of all points of this process, chosen by the centroids and labels of one moment.

    They are held where the centered rows are, else made again for each block: the same ones.
    """

    def __init__(
        self,
        points: Points,
        centroids: Float[np.ndarray, "k d"],
        labels: Int[np.ndarray, " n"],
        rng: np.random.Generator,
        tile: int = TILE,
    ) -> None:
        self.points = points
        self._groups = Groups(points, centroids, rng, tile)
        self._labels = labels if points.fits else labels.copy()
        self._held = [self._made(*block) for block in points.blocks()] if points.fits else None

    def block(self, start: int, stop: int) -> Int[np.ndarray, "m f"]:
        """Candidates of the rows of one block, int32; the nearest first, as they looked when they were chosen."""
        return self._made(start, stop) if self._held is None else self._held[start // BLOCK]

    def _made(self, start: int, stop: int) -> Int[np.ndarray, "m f"]:
        x, labels, groups = self.points.centered(start, stop), self._labels[start:stop], self._groups
        group = groups.of(x, labels, np.arange(start, stop))
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=len(groups.lists)))
        out = np.empty((stop - start, min(_FEW, groups.k)), np.int32)

        def one(number: int) -> None:
            low, high = (0 if number == 0 else ends[number - 1]), ends[number]
            for first in range(low, high, _ROWS):
                rows = order[first : min(first + _ROWS, high)]
                groups.choose(x.numpy(), rows, number, out)

        for_each(one, range(len(groups.lists)))
        return out


class Groups:
    """Groups of centroids, and for each the centroids that its points are compared with."""

    def __init__(
        self, points: Points, centroids: Float[np.ndarray, "k d"], rng: np.random.Generator, tile: int
    ) -> None:
        self.points, self.tile, self.k = points, tile, len(centroids)
        count = max(1, self.k // _GROUP)
        small = Points(centroids, dtype="float64" if points.dtype == torch.float64 else "float32", device="cpu")
        start = centroids[np.sort(rng.choice(self.k, count, replace=False))]
        coarse = lloyd(small, start, n_iter=3, tile=tile)
        self.table = make_table(points, coarse.centroids)
        self.group_of: NDArray[np.int64] = coarse.labels.astype(np.int64)
        self._centered = points.to_device(points.center_values(np.asarray(centroids, np.float64))).numpy()
        self._middles = points.to_device(points.center_values(np.asarray(coarse.centroids, np.float64))).numpy()
        self.lists = self._lists(count)
        self._ready: dict[int, tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]] = {}

    def _lists(self, count: int) -> list[NDArray[np.int64]]:
        most = min(self.k, _NEAR)
        c, m = self._centered.astype(np.float64), self._middles.astype(np.float64)
        distance = np.square(c).sum(1) - 2 * m @ c.T
        near = np.argpartition(distance, most - 1, axis=1)[:, :most]
        order = np.argsort(self.group_of, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(self.group_of, minlength=count))[:-1])
        return [np.union1d(some, own) for some, own in zip(near, members, strict=True)]

    def of(self, x: torch.Tensor, labels: Int[np.ndarray, " m"], rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Group of each row: that of its centroid, or, before it has one, that of the nearest middle."""
        if labels[0] >= 0:
            return self.group_of[labels]
        return nearest_rows(self.points, x, rows, self.table, tile=self.tile).label.astype(np.int64)

    def choose(self, x: NDArray[Any], rows: NDArray[np.int64], number: int, out: Int[np.ndarray, "m f"]) -> None:
        """Write the candidates of some rows of ``x``, all of one group."""
        whole, scale, squares = self._list(number)
        middle = self._middles[number]
        own, own_scale = np.empty((len(rows), x.shape[1]), np.int8), np.empty(len(rows), np.float32)
        _quantize(x, rows, middle, own, own_scale)
        products = integer_products(torch.from_numpy(own), torch.from_numpy(whole))
        _choose(products, own_scale, scale, squares, self.lists[number], rows, out)

    def _list(self, number: int) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
        """Centroids of a list less the middle of the group in 8 bits, the unit of each, and their squared norms."""
        if number not in self._ready:
            rows = self.lists[number]
            whole, scale = np.empty((len(rows), self._centered.shape[1]), np.int8), np.empty(len(rows), np.float32)
            _quantize(self._centered, rows, self._middles[number], whole, scale)
            squares = np.square(self._centered[rows].astype(np.float64) - self._middles[number]).sum(1)
            self._ready[number] = whole, scale, squares.astype(np.float32)
        return self._ready[number]


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _quantize(x: Any, rows: Any, middle: Any, out: Any, scale: Any) -> None:
    """Rows of x less the middle, in steps of 1/127 of the largest value of each."""
    d = x.shape[1]
    values = np.empty(d, np.float32)
    for i in range(len(rows)):
        row = x[rows[i]]
        largest = np.float32(0)
        for f in range(d):
            values[f] = row[f] - middle[f]
        for f in range(d):
            largest = max(largest, abs(values[f]))
        scale[i] = largest / np.float32(127)
        inverse = np.float32(127) / largest if largest > 1e-30 else np.float32(0)
        for f in range(d):
            out[i, f] = np.int8(np.rint(values[f] * inverse))


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _choose(products: Any, x_scale: Any, c_scale: Any, squares: Any, numbers: Any, rows: Any, out: Any) -> None:
    """The columns of the smallest |c|^2 - 2 x.c of each row, the first of equal ones; written as centroid numbers.

    Minima of 64 lanes of columns are taken first: the f-th smallest of them bounds the f-th smallest key, so that few
    columns are looked at one by one.
    """
    width, few = products.shape[1], out.shape[1]
    padded = -(-width // _LANES) * _LANES
    keys, low = np.empty(padded, np.float32), np.empty(_LANES, np.float32)
    best, at = np.empty(few, np.float32), np.empty(few, np.int64)
    for i in range(len(products)):
        two = np.float32(2) * x_scale[i]
        row = products[i]
        for j in range(width):
            keys[j] = squares[j] - two * c_scale[j] * np.float32(row[j])
        keys[width:] = np.float32(np.inf)
        low[:] = keys[:_LANES]
        for base in range(_LANES, padded, _LANES):
            part = keys[base : base + _LANES]
            for lane in range(_LANES):
                low[lane] = min(low[lane], part[lane])
        limit = np.float32(np.inf)
        if few <= min(width, _LANES):
            filled = 0
            for lane in range(_LANES):
                filled = _insert(best, at, filled, low[lane], lane)
            limit = best[few - 1]
        filled = 0
        for lane in range(_LANES):
            if low[lane] <= limit:
                for j in range(lane, width, _LANES):
                    if keys[j] <= limit:
                        filled = _insert(best, at, filled, keys[j], j)
        to = out[rows[i]]
        for slot in range(few):
            to[slot] = numbers[at[slot]]


@numba.njit(nogil=True, cache=True)
def _insert(best: Any, at: Any, filled: int, key: Any, column: int) -> int:
    """Put a key in its place among the smallest so far; returns how many there are."""
    few = len(best)
    if filled == few and (key > best[few - 1] or (key == best[few - 1] and column > at[few - 1])):
        return filled
    place = min(filled, few - 1)
    while place > 0 and (best[place - 1] > key or (best[place - 1] == key and at[place - 1] > column)):
        best[place], at[place] = best[place - 1], at[place - 1]
        place -= 1
    best[place], at[place] = key, column
    return min(filled + 1, few)


@numba.njit(nogil=True, cache=True, fastmath=_LOOSE)
def _distance(a: Any, b: Any) -> Any:
    total = a[0] * 0
    for f in range(len(a)):
        step = a[f] - b[f]
        total += step * step
    return total


@numba.njit(nogil=True, cache=True)
def nearest_candidate(x: Any, c: Any, candidates: Any, labels: Any) -> None:
    """Move the label of each row to the nearest of its candidates, if that is nearer than the centroid it has."""
    half = (x.shape[1] + 1) // 2  # one half is often enough to rule a candidate out
    for i in range(len(x)):
        row = x[i]
        own = labels[i]
        best, at = np.inf, own
        if own >= 0:
            best = _distance(row, c[own])
        for slot in range(candidates.shape[1]):
            number = candidates[i, slot]
            if number == own:
                continue
            distance = _distance(row[:half], c[number, :half])
            if distance >= best:
                continue
            distance += _distance(row[half:], c[number, half:])
            if distance < best:
                best, at = distance, number
        labels[i] = at
