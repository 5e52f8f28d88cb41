"""Points rounded to whole numbers: distances between them are exact, in whatever order a product adds.

Fine: as many bits as keep every sum below 2^53, in float64 products. Coarse: up to 127 steps to either side, so that a
sum stays below 2^24, in 8-bit products (15 times as fast where the processor has them, exact in float32 elsewhere).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.distance import full_precision
from strata.curation.kmeans.parallel import for_each
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.source import BLOCK

_ELEMENTS = 1 << 24  # of the candidates x points matrix
_ROWS = 8192  # of one product of whole numbers
_COARSE = 1 << 24  # n k d from which the coarse grid is used
_NOISE = 16  # the coarse grid has done its work when the sum of D^2 is this many times what rounding may add


class Distances(ABC):
    """Squared distances of all points to the nearest center so far (``closest``) and to candidates (``load``)."""

    noise = 0.0  # a sum of D^2 that says nothing any more
    unit = 1.0  # steps of the grid per unit of the centered rows

    def __init__(self, points: Points, dtype: Any) -> None:
        self.points, self.closest = points, np.empty(points.n, dtype)
        self.batch = _ELEMENTS // points.total
        self._to_all: NDArray[Any] = np.empty((0, points.n), dtype)

    @abstractmethod
    def to_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Distances of all points of this process to rows of all, [r, n]; the memory is used again by the next call."""

    def start(self, chosen: list[int]) -> None:
        """Begin with these centers."""
        for low in range(0, len(chosen), max(1, self.batch)):
            nearest = self.to_rows(np.array(chosen[low : low + max(1, self.batch)])).min(0)
            self.closest = np.minimum(self.closest, nearest) if low else nearest

    def load(self, candidates: NDArray[np.int64]) -> Float[np.ndarray, "r r"]:
        """Compute the distances to candidates; returns those between them."""
        self._to_all = self.to_rows(candidates)
        return _values_at(self.points, self._to_all, candidates)

    def add(self, number: int) -> None:
        """Make a candidate a center."""
        np.minimum(self.closest, self._to_all[number], out=self.closest)

    def at(self, rows: NDArray[np.int64]) -> Float[np.ndarray, " r"]:
        """D^2 of the given rows of all."""
        return _values_at(self.points, self.closest[None], rows)[0]

    def potentials(self, candidates: NDArray[np.int64]) -> Float[np.ndarray, " t"]:
        """Sum of D^2 that each candidate would leave."""
        return self._block_sums(np.minimum(self.closest, self._to_all[candidates])).sum(0)

    def block_sums(self) -> Float[np.ndarray, " b"]:
        """Sum of D^2 over each block of all processes."""
        return self._block_sums(self.closest[None])[:, 0]

    def _block_sums(self, values: NDArray[Any]) -> Float[np.ndarray, "b r"]:
        own = [values[:, start:stop].sum(1) for start, stop in self.points.blocks()]
        sums: NDArray[np.float64] = self.points.group.concatenated(
            np.array(own, np.float64).reshape(-1, len(values)), self.points.group.blocks_of_each(self.points.total)
        )
        return sums


class FineDistances(Distances):
    """In float64; times the weight of each point, if there are weights."""

    def __init__(self, points: Points, weight: Float[np.ndarray, " n"] | None = None) -> None:
        super().__init__(points, np.float64)
        # Values lie in [-1, 1], so with b bits |x|^2 + |c|^2 - 2 x.c is at most 4 d 4^b, which must stay below 2^53.
        self.unit = 2.0 ** ((51 - math.ceil(math.log2(points.d))) // 2)
        self.weight = weight
        self.squares = [self._grid(points.centered(*block)).square_().sum(1) for block in points.blocks()]

    def _grid(self, values: Tensor) -> Float[Tensor, "m d"]:
        return (values.double() * self.unit).round_()

    def to_rows(self, rows: NDArray[np.int64]) -> Float[np.ndarray, "r n"]:
        """Distances of all points of this process to rows of all."""
        points = self.points
        centers = self._grid(points.to_device(points.center_values(points.rows_anywhere(rows))))
        squares = centers.square().sum(1)[:, None]
        out = np.empty((len(rows), points.n))
        with full_precision():
            for (start, stop), own in zip(points.blocks(), self.squares, strict=True):
                block = self._grid(points.centered(start, stop))
                distance = torch.addmm(own, centers, block.T, alpha=-2).add_(squares)
                out[:, start:stop] = distance.cpu().numpy()
        if self.weight is not None:
            out *= self.weight
        return out


class CoarseDistances(Distances):
    """In whole numbers of 32 bits, from products of 8 bits. CPU only; no weights."""

    def __init__(self, points: Points) -> None:
        super().__init__(points, np.int32)
        self.batch *= 2
        self.unit = min(127, math.isqrt(((1 << 24) - 1) // points.d)) / points.reach
        self._held = [self._grid(points.centered(*block)) for block in points.blocks()] if points.fits else None
        self.squares: list[NDArray[np.int32]] = []
        lost = np.zeros(points.n)
        for start, stop in points.blocks():
            block = points.centered(start, stop)
            whole = self._block(start, stop)
            self.squares.append(_squares(whole.numpy()))
            lost[start:stop] = np.square((block * self.unit - whole).numpy()).sum(1)
        self.noise = _NOISE * points.sum(lost)

    def _grid(self, values: Tensor) -> Int[Tensor, "m d"]:
        return (values * self.unit).round_().to(torch.int8)

    def _block(self, start: int, stop: int) -> Int[Tensor, "m d"]:
        if self._held is not None:
            return self._held[start // BLOCK]
        return self._grid(self.points.centered(start, stop))

    def to_rows(self, rows: NDArray[np.int64]) -> Int[np.ndarray, "r n"]:
        """Distances of all points of this process to rows of all."""
        points = self.points
        centers = self._grid(points.to_device(points.center_values(points.rows_anywhere(rows))))
        own = _squares(centers.numpy())
        if len(self._to_all) < len(rows):
            self._to_all = np.empty((len(rows), points.n), np.int32)
        out = self._to_all[: len(rows)]
        for (start, stop), squares in zip(points.blocks(), self.squares, strict=True):
            block = self._block(start, stop)

            def part(low: int, block: Tensor = block, squares: Any = squares, start: int = start) -> None:
                some = block[low : low + _ROWS]
                products = integer_products(centers, some)
                left = start + low
                _distances(products, squares[low : low + _ROWS], own, out[:, left : left + len(some)])

            for_each(part, range(0, stop - start, _ROWS))
        return out

    def load(self, candidates: NDArray[np.int64]) -> Float[np.ndarray, "r r"]:
        """Compute the distances to candidates; returns those between them."""
        return _values_at(self.points, self.to_rows(candidates), candidates)

    def potentials(self, candidates: NDArray[np.int64]) -> Float[np.ndarray, " t"]:
        """Sum of D^2 that each candidate would leave: whole numbers, added in any order."""
        sums = np.zeros((-(-self.points.n // _ROWS), len(candidates)), np.int64)
        for_each(
            lambda part: _potentials(self._to_all, candidates, self.closest, part * _ROWS, _ROWS, sums[part]),
            range(len(sums)),
        )
        return self.points.group.sum(sums.sum(0)).astype(np.float64)


def grids(points: Points, k: int, weight: Float[np.ndarray, " n"] | None) -> Iterator[Distances]:
    """The grids to draw on, one after the other: the coarse one where there is much to do, and then the fine one."""
    if weight is None and points.device.type == "cpu" and points.total * points.d * k >= _COARSE and points.reach > 0:
        yield CoarseDistances(points)
    yield FineDistances(points, weight)


@lru_cache(1)
def _has_int8() -> bool:
    # Without VNNI, 8-bit products may be added in 16 bits and lose what overflows.
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported())


def integer_products(a: Int[Tensor, "m d"], b: Int[Tensor, "w d"]) -> Int[np.ndarray, "m w"]:
    """a b^T of int8 matrices, exact int32; |sums| must stay below 2^24."""
    if _has_int8():
        products: NDArray[np.int32] = torch._int_mm(a, b.T).numpy()
        return products
    with full_precision():
        return (a.float() @ b.float().T).to(torch.int32).numpy()


@numba.njit(nogil=True, cache=True)
def _squares(rows: Any) -> Any:
    out = np.zeros(len(rows), np.int32)
    for i in range(len(rows)):
        total = np.int32(0)
        for f in range(rows.shape[1]):
            total += np.int32(rows[i, f]) * np.int32(rows[i, f])
        out[i] = total
    return out


@numba.njit(nogil=True, cache=True)
def _distances(products: Any, squares: Any, own: Any, out: Any) -> None:
    for r in range(len(products)):
        row, to, base = products[r], out[r], own[r]
        for i in range(len(row)):
            to[i] = squares[i] + base - np.int32(2) * row[i]


@numba.njit(nogil=True, cache=True)
def _potentials(to_all: Any, candidates: Any, closest: Any, start: int, rows: int, out: Any) -> None:
    near = closest[start : start + rows]
    for t in range(len(candidates)):
        row = to_all[candidates[t], start : start + rows]
        total = np.int64(0)
        for i in range(len(near)):
            total += np.int64(min(near[i], row[i]))
        out[t] = total


def _values_at(points: Points, values: NDArray[Any], rows: NDArray[np.int64]) -> Float[np.ndarray, "m r"]:
    """Columns of the given rows of all, from the processes that have them, as float64."""
    local = rows - points.first
    if points.group.size == 1:
        taken: NDArray[np.float64] = values[:, local].astype(np.float64)
        return taken
    own = (local >= 0) & (local < points.n)
    out = np.zeros((len(values), len(rows)))
    out[:, own] = values[:, local[own]]
    return points.group.sum(out.view(np.int64)).view(np.float64)  # as bits: all others are zero
