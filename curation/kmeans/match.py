"""Nearest centroids on the CPU: cheap products find the few that can be nearest, float64 differences decide.

Tiles of bfloat16 products (four times as many a second as float32 ones where the processor has them) or float32
products go through a compiled loop that keeps, for each row, the columns that rounding does not rule out: mostly one.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from threading import local

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.kmeans import kernels
from strata.curation.kmeans.parallel import for_each
from strata.curation.products import has_onednn, onednn_linear

TILE = 1 << 19  # products held at a time
_WIDTH = 2048  # most columns of a tile
_MOST = 64  # candidates kept of a row
_scratch = local()


@lru_cache(1)
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Side:
    """Rows or centroids rounded for cheap products, with what the error bounds need."""

    def __init__(self, values: Float[Tensor, "m d"], dtype: torch.dtype) -> None:
        self.low = values.to(dtype)
        same = dtype == values.dtype
        back = values if same else self.low.to(values.dtype)
        squares = torch.linalg.vecdot(back, back)
        lost = torch.zeros_like(squares) if same else (values - back).square_().sum(1)
        self.norms: Float[np.ndarray, "m 3"] = torch.stack([squares, squares.sqrt(), lost.sqrt()], 1).float().numpy()


@dataclass
class Target:
    """Centroids [u, d], centered and scaled, ready to be matched."""

    values: Float[Tensor, "u d"]
    _sides: dict[torch.dtype, tuple[Side, NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def reach(self) -> float:
        """Largest norm, with what rounding may have taken from it."""
        return 1.01 * float(self.side(torch.float32)[1][1].max())

    def side(self, dtype: torch.dtype) -> tuple[Side, Float[np.ndarray, "3 u"]]:
        """The centroids in the dtype of the products, and their squared norms, norms and losses."""
        if dtype not in self._sides:
            side = Side(self.values, dtype)
            norms = np.ascontiguousarray(side.norms.T)
            norms[0] = self.values.double().square().sum(1).numpy()
            self._sides[dtype] = side, norms
        return self._sides[dtype]


@dataclass
class Match:
    """For each row its nearest column, the squared distance, and a lower bound of the other columns'."""

    label: Int[np.ndarray, " m"]
    near: Float[np.ndarray, " m"]
    far: Float[np.ndarray, " m"]
    tied: Int[np.ndarray, " m"]  # 1: ``pairs`` has the candidates; 2: too many candidates
    pairs: Int[np.ndarray, "p 2"]  # (row, column), sorted


def match(x: Float[Tensor, "m d"], target: Target, dtype: torch.dtype, *, tile: int = TILE) -> Match:
    """Match the rows of ``x``, in products of the given dtype; float64 accumulations of differences decide."""
    m, u = len(x), len(target.values)
    width = min(u, _WIDTH, max(256, tile // 256))
    height = max(16, min(tile // width, 8192))
    # Label 0 where there are too many candidates: what is not decided must still be a column.
    result = Match(np.zeros(m, np.int32), np.empty(m), np.empty(m), np.empty(m, np.uint8), np.empty((0, 2), np.int64))
    target.side(dtype)
    pairs: dict[int, NDArray[np.int64]] = {}

    def one(start: int) -> None:
        part = slice(start, min(start + height, m))
        pairs[start] = _match_tile(x[part], target, dtype, width, result, part)

    for_each(one, range(0, m, height))
    result.pairs = np.concatenate([result.pairs, *(pairs[start] for start in sorted(pairs))])
    return result


def _match_tile(
    x: Tensor, target: Target, dtype: torch.dtype, width: int, out: Match, part: slice
) -> NDArray[np.int64]:
    m, d = x.shape
    u = len(target.values)
    side, (c_sq, c_norm, c_lost) = target.side(dtype)
    own = Side(x, dtype)
    upper, rest, count = np.full(m, np.inf, np.float32), np.full(m, np.inf, np.float32), np.zeros(m, np.int32)
    most = min(_MOST, max(16, u // 16))
    cols = _buffer("cols", m * most, torch.int32).numpy().reshape(m, most)
    lows = _buffer("lows", m * most, torch.float32).numpy().reshape(m, most)
    accumulated = 2.1 * (d + 2) * 2.0**-24
    scan = kernels.scan_bfloat16 if dtype == torch.bfloat16 else kernels.scan_float32
    for first in range(0, u, width):
        last = min(first + width, u)
        products = _products(own.low, side.low[first:last])
        scan(
            products, first, c_sq[first:last], c_norm[first:last], c_lost[first:last], own.norms,
            upper, rest, count, cols, lows, accumulated,
        )  # fmt: skip
    unit = 2.0**-24 if x.dtype == torch.float32 else 2.0**-53
    label, near, far, tied = out.label[part], out.near[part], out.far[part], out.tied[part]
    kernels.decide(
        x.numpy(), target.values.numpy(), own.norms, c_norm + c_lost, upper, rest, count, cols, lows, unit,
        label, near, far, tied,
    )  # fmt: skip
    open_rows = np.flatnonzero(tied == 1)
    return np.array(
        [(part.start + row, col) for row in open_rows for col in np.sort(cols[row, : count[row]])], np.int64
    ).reshape(-1, 2)


def _products(x: Tensor, c: Tensor) -> NDArray[np.float32] | NDArray[np.uint16]:
    if x.dtype == torch.bfloat16:
        out = _buffer("products", len(x) * len(c), torch.bfloat16).view(len(x), len(c))
        torch.mm(x, c.T, out=out)
        bits: NDArray[np.uint16] = out.view(torch.uint16).numpy()
        return bits
    if len(x) >= 256 and has_onednn():  # twice as fast where torch's BLAS does not know the processor
        linear: NDArray[np.float32] = onednn_linear(x, c).numpy()
        return linear
    out = _buffer("products", len(x) * len(c), torch.float32).view(len(x), len(c))
    plain: NDArray[np.float32] = torch.mm(x, c.T, out=out).numpy()
    return plain


def _buffer(name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Memory of this thread that is used again: fresh pages would cost as much as the products."""
    key = f"{name}_{dtype}"
    held: Tensor | None = getattr(_scratch, key, None)
    if held is None or len(held) < size:
        held = torch.empty(size, dtype=dtype)
        setattr(_scratch, key, held)
    return held[:size]
