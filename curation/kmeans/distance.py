"""Exact nearest centroids: fast products find the candidates, float64 differences decide between them.

A matrix product in low precision gives distances whose last digits depend on tile shapes and thread counts. So it only
screens: a centroid that lies beyond the rounding bound of the best one cannot be nearest. What is left (mostly one) is
compared by float64 differences of the centered rows, and what even these cannot tell by float64 sums of squared
differences of the rows as given, added in a fixed tree, with the lowest index on exact ties. The labels are therefore
the true nearest centroids, the same for any tile, chunk, thread count, precision of the screen or device.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans.match import TILE, Match, Target, has_bfloat16, match
from strata.curation.kmeans.points import STEP, Points

_CHUNK = 1 << 20  # elements of a float64 temporary


@dataclass
class CentroidTable:
    """Centroids made ready for assignment; of equal ones only the first is kept."""

    index: Int[np.ndarray, " u"]  # the centroid that each row of the table is
    exact: Float[np.ndarray, "u d"]  # float64, in the space of the rows
    centered: Float[np.ndarray, "u d"]  # float64, as Points.center_values
    on_device: Float[Tensor, "u d"]
    target: Target | None  # on the CPU


@dataclass
class Part:
    """Some rows of a table, ascending."""

    columns: Int[np.ndarray, " p"]
    target: Target


@dataclass
class Nearest:
    """Nearest centroid of each row of a block: int32 labels; and for pruning, in the space of the centered rows,"""

    label: Int[np.ndarray, " m"]
    near: Float[np.ndarray, " m"]  # squared distance to it (as computed)
    far: Float[np.ndarray, " m"]  # a lower bound of the squared distance to any other; -inf where nothing is known


def make_table(points: Points, centroids: Float[np.ndarray, "k d"]) -> CentroidTable:
    """Prepare centroids [k, d] for ``nearest``."""
    index = _first_of_equal(centroids)
    exact = np.array(centroids[index], np.float64)
    centered = points.center_values(exact)
    on_device = points.to_device(centered)
    return CentroidTable(index, exact, centered, on_device, Target(on_device) if points.device.type == "cpu" else None)


def _first_of_equal(centroids: NDArray[np.floating]) -> NDArray[np.int64]:
    # Equal rows agree in their first column: where that has no repeat (nearly always) nothing else is looked at.
    if len(np.unique(centroids[:, 0])) == len(centroids):
        return np.arange(len(centroids))
    rows = np.ascontiguousarray(centroids + 0.0)  # -0.0 becomes 0.0: rows are compared as bytes
    _, first = np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))), return_index=True)
    return np.sort(first.astype(np.int64))


def rounding_bound(d: int, dtype: torch.dtype) -> float:
    """b such that a computed |c|^2 - 2 x.c is within b (|x|^2 + |c|^2) of the exact one.

    Standard analysis: a product of length d is off by at most d u |x||c| for any order of summation; the rest covers
    the rounding of the centered values, the norms and the bias, and the error of the final float64 comparison.
    """
    unit = torch.finfo(dtype).eps / 2
    return (d + 16) * (2 * unit + 4 * 2.0**-53)


def nearest(points: Points, start: int, stop: int, table: CentroidTable, *, tile: int = TILE) -> Int[np.ndarray, " m"]:
    """Label of each row of one block: its nearest centroid, the lowest index on exact ties. int32 [stop - start]."""
    return nearest_rows(points, points.centered(start, stop), np.arange(start, stop), table, tile=tile).label


def nearest_rows(
    points: Points,
    x: Float[Tensor, "m d"],
    rows: Int[np.ndarray, " m"],
    table: CentroidTable,
    *,
    part: Part | None = None,
    tile: int = TILE,
) -> Nearest:
    """The same of any rows: ``x`` is centered, ``rows`` says which points they are; among a part of the centroids."""
    with full_precision():
        if table.target is None:
            return _nearest_on_gpu(points, x, rows, table, tile)
        target = table.target if part is None else part.target
        found = match(x, target, _screen_dtype(points, len(target.values)), tile=tile)
        lost = np.flatnonzero(found.tied == 2)
        if len(lost):
            if len(lost) > len(x) // 2:
                points.screen = torch.float32  # for good: these points are too close together for bfloat16
            again = match(x[torch.from_numpy(lost)], target, torch.float32, tile=tile)
            _merge(found, again, lost)
        columns = slice(None) if part is None else part.columns
        _break_ties(points, rows, table, columns, found)
    return Nearest(table.index[columns][found.label].astype(np.int32), found.near, found.far)


def _screen_dtype(points: Points, k: int) -> torch.dtype:
    if points.screen is None:
        points.screen = torch.bfloat16 if has_bfloat16() and points.d >= 16 else torch.float32
    return points.screen if k >= 64 else torch.float32


def _merge(found: Match, again: Match, rows: NDArray[np.int64]) -> None:
    found.label[rows], found.near[rows], found.far[rows] = again.label, again.near, again.far
    found.tied[rows] = again.tied
    pairs = np.stack([rows[again.pairs[:, 0]], again.pairs[:, 1]], 1)
    found.pairs = np.concatenate([found.pairs, pairs])
    found.pairs = found.pairs[np.lexsort((found.pairs[:, 1], found.pairs[:, 0]))]


def _break_ties(
    points: Points, rows: NDArray[np.int64], table: CentroidTable, columns: slice | NDArray[np.int64], found: Match
) -> None:
    """Settle what ``match`` could not, on the rows as given."""
    if len(found.pairs):
        close = np.unique(found.pairs[:, 0])
        pairs = np.stack([np.searchsorted(close, found.pairs[:, 0]), found.pairs[:, 1]], 1)
        found.label[close] = _nearest_pair(points.exact_rows(rows[close]), table.exact[columns], pairs)
        found.far[close] = -np.inf
    many = np.flatnonzero(found.tied == 2)
    if len(many):
        found.label[many] = _decide(points, rows[many], table.exact[columns], table.centered[columns])
        found.far[many] = -np.inf


def _nearest_on_gpu(
    points: Points, x: Float[Tensor, "m d"], rows: NDArray[np.int64], table: CentroidTable, tile: int
) -> Nearest:
    column, best, second = _screen(x, table.on_device, tile)
    bound = rounding_bound(points.d, points.dtype)
    x_sq = x.square().sum(1)
    c_sq = table.on_device.square().sum(1)
    unsure = second <= best + 2 * bound * (c_sq[column] + x_sq) + torch.finfo(points.dtype).tiny
    labels: NDArray[np.int64] = column.cpu().numpy()
    open_rows = unsure.nonzero()[:, 0].cpu().numpy()
    if len(open_rows):
        labels[open_rows] = _decide(points, rows[open_rows], table.exact, table.centered)
    nothing = np.full(len(labels), -np.inf)
    return Nearest(table.index[labels].astype(np.int32), (best + x_sq).cpu().numpy(), nothing)


def assign(points: Points, centroids: Float[np.ndarray, "k d"], *, tile: int = TILE) -> Int[np.ndarray, " n"]:
    """Nearest centroid of every point, int32 [n]. See ``nearest``."""
    table = make_table(points, centroids)
    labels = np.empty(points.n, np.int32)
    for start, stop in points.blocks():
        labels[start:stop] = nearest(points, start, stop, table, tile=tile)
    return labels


def squared_distances(
    points: Points, centroids: Float[np.ndarray, "k d"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Squared Euclidean distance of every point to the centroid of its label, float64."""
    out = np.empty(points.n)
    for start, stop in points.steps(0, points.n):
        out[start:stop] = _tree_sum_of_squares(points.exact(start, stop) - centroids[labels[start:stop]])
    return out


def exact_distances(
    points: Points, rows: Int[np.ndarray, " m"], centroids: Float[np.ndarray, "k d"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """The same of given rows."""
    out = np.empty(len(rows))
    for low in range(0, len(rows), STEP):
        part = slice(low, low + STEP)
        out[part] = _tree_sum_of_squares(points.exact_rows(rows[part]) - centroids[labels[part]])
    return out


def _screen(
    x: Float[Tensor, "m d"], c: Float[Tensor, "u d"], tile: int
) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """For each row the column of the smallest lower bound of its distances, that bound, and the second smallest.

    The bounds are those on |x - c|^2 less what all columns of a row share.
    """
    bias = c.double().square().sum(1).mul(1 - rounding_bound(x.shape[1], x.dtype)).to(x.dtype)
    width = min(len(c), max(256, tile // 256))
    height = max(16, tile // width)
    column = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    best = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    second = best.clone()
    buffer = torch.empty(min(height, len(x)) * width, dtype=x.dtype, device=x.device)
    for row in range(0, len(x), height):
        part = slice(row, min(row + height, len(x)))
        for left in range(0, len(c), width):
            cut = c[left : left + width]
            bounds = buffer[: (part.stop - part.start) * len(cut)].view(-1, len(cut))
            torch.addmm(bias[left : left + width], x[part], cut.T, alpha=-2, out=bounds)
            here, low, next_low = _two_smallest(bounds)
            second[part] = torch.minimum(torch.maximum(best[part], low), torch.minimum(second[part], next_low))
            column[part] = torch.where(low < best[part], here + left, column[part])
            best[part] = torch.minimum(best[part], low)
    return column, best, second


def _two_smallest(values: Float[Tensor, "m w"]) -> tuple[Tensor, Tensor, Tensor]:
    """Column of the smallest value of each row, that value, and the next smallest. Overwrites ``values``."""
    column = values.argmin(1)
    low = values.gather(1, column[:, None])[:, 0]
    values.scatter_(1, column[:, None], torch.inf)
    return column, low, values.amin(1)


def _decide(
    points: Points, rows: NDArray[np.int64], c_exact: NDArray[np.float64], c_centered: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Centroid that is truly nearest to each of the given points."""
    k, d = c_exact.shape
    centered = torch.from_numpy(c_centered).to(points.device)
    c_sq = centered.square().sum(1)
    bound = rounding_bound(d, torch.float64)
    labels = np.empty(len(rows), np.int64)
    height = max(16, _CHUNK // max(k, d))
    for low in range(0, len(rows), height):
        part = slice(low, min(low + height, len(rows)))
        exact = points.exact_rows(rows[part])
        x = torch.from_numpy(points.center_values(exact)).to(points.device)
        bounds = torch.addmm(c_sq * (1 - bound), x, centered.T, alpha=-2)
        best, column = bounds.min(1)
        limit = best + 2 * bound * (c_sq[column] + x.square().sum(1)) + torch.finfo(torch.float64).tiny
        pairs = (bounds <= limit[:, None]).nonzero().cpu().numpy()
        labels[part] = _nearest_pair(exact, c_exact, pairs)
    return labels


def _nearest_pair(x: NDArray[np.float64], c: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of pairs (row, column), sorted, the column nearest to each row, the first on exact ties; every row has a pair."""
    row, column = pairs[:, 0], pairs[:, 1]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    counts = np.diff(starts, append=len(row))
    if (counts == 1).all():
        return column
    distance = np.empty(len(row))
    step = max(1, _CHUNK // x.shape[1])
    for low in range(0, len(row), step):
        part = slice(low, low + step)
        distance[part] = _tree_sum_of_squares(x[row[part]] - c[column[part]])
    is_best = distance == np.repeat(np.minimum.reduceat(distance, starts), counts)
    winners = np.flatnonzero(is_best)
    first = np.flatnonzero(np.diff(row[winners], prepend=-1))
    return column[winners[first]]


def _tree_sum_of_squares(difference: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
    """Sum of squares of each row, halves added to halves: the order depends on d only. Overwrites its argument."""
    values = np.square(difference, out=difference)
    while (width := values.shape[1]) > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:]
        values = values[:, :half]
    return values[:, 0].copy()


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products in true float32: TF32 or bf16, which Lightning users switch on globally, would break the bound."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
