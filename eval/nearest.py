"""Exact nearest neighbors by cosine similarity, the same to the bit for any tiling, thread count or device."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GRID = 2.0**24


def nearest_neighbors(
    queries: Float[np.ndarray, "n d"],
    keys: Float[np.ndarray, "m d"],
    k: int,
    *,
    device: torch.device | str = "cpu",
    query_rows: int = 512,
    key_rows: int = 16384,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Cosine similarities and rows of the k nearest keys of each query, nearest first.

    Equal similarities come in the order of the rows. At most ``query_rows * key_rows`` similarities exist at once.

    How it is exact: unit vectors are rounded to multiples of 2^-24 (finer than float32 features are known), so that a
    product is a multiple of 2^-48 and every partial sum, being at most about 1, fits the 53 bits of a float64. No
    addition ever rounds, so the order of summation, which differs between tile shapes, cannot matter.

    Args:
        queries: any float dtype; normalized here. A zero row is similar to nothing (similarity 0).
        keys: likewise.
        k: at most the number of keys.
        device: where similarities are computed; results are on the CPU, float64 and int64.
        query_rows: queries of a tile.
        key_rows: keys of a tile.
    """
    tiles = [_unit(queries[start : start + query_rows], device) for start in range(0, len(queries), query_rows)]
    best = [torch.empty(len(tile), 0, dtype=torch.float64, device=device) for tile in tiles]
    rows = [torch.empty(len(tile), 0, dtype=torch.int64, device=device) for tile in tiles]
    for first in range(0, len(keys), key_rows):
        block = _unit(keys[first : first + key_rows], device)
        for i, tile in enumerate(tiles):
            values, columns = _top(tile @ block.T, k)
            merged = torch.cat([best[i], values], dim=1)
            merged_rows = torch.cat([rows[i], columns + first], dim=1)  # among equals, the lower rows stand first
            merged, order = merged.sort(dim=1, descending=True, stable=True)
            best[i], rows[i] = merged[:, :k], merged_rows.gather(1, order)[:, :k]
    return torch.cat(best).cpu(), torch.cat(rows).cpu()


def _unit(block: Float[np.ndarray, "m d"], device: torch.device | str) -> Float[Tensor, "m d"]:
    """Rows scaled to length 1, on a grid of 2^-24, in float64.

    Computed by numpy on the CPU, row by row: the same bits wherever the block begins.
    """
    exact = block.astype(np.float64)
    norms = np.sqrt(np.square(exact).sum(axis=1, keepdims=True))
    unit = np.rint(exact / np.maximum(norms, np.finfo(np.float64).tiny) * _GRID) / _GRID
    return torch.from_numpy(unit).to(device)


def _top(similarity: Float[Tensor, "q m"], k: int) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k largest of each row by (value, lower column first): ``topk`` leaves open which of equals it takes."""
    m = similarity.shape[1]
    k = min(k, m)
    values, columns = similarity.topk(min(k + 1, m), dim=1)
    if m > k:
        tied = (
            values[:, k - 1] == values[:, k]
        )  # equals on both sides of the cut: rare, so the slow sort is paid there only
        if tied.any():
            columns[tied, :k] = similarity[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    columns = columns[:, :k].sort(dim=1).values
    values = similarity.gather(1, columns)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)
