"""Exact nearest neighbors by cosine similarity, the same to the bit for any tiling, thread count or device."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.eval.screens import Screen, screens_for

_GRID = 2.0**24
_TILE = 1 << 25  # similarities held at a time: 128 MB in float32


def nearest_neighbors(
    queries: Float[np.ndarray, "n d"],
    keys: Float[np.ndarray, "m d"],
    k: int,
    *,
    device: torch.device | str = "cpu",
    query_rows: int = 0,
    key_rows: int = 1 << 17,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Cosine similarities and rows of the k nearest keys of each query, nearest first.

    Equal similarities come in the order of the rows. At most ``query_rows * key_rows`` similarities exist at once.

    How it is exact: unit vectors are rounded to multiples of 2^-24 (finer than float32 features are known), so that a
    product is a multiple of 2^-48 and every partial sum, being at most about 1, fits the 53 bits of a float64. No
    addition ever rounds, so the order of summation, which differs between tile shapes, cannot matter.

    How it is fast: cheap products (bfloat16 where the processor has them, then float32) name somewhat more than k
    candidates in each tile of keys, and exact sums order those. Cheap products err by less than a bound; where it leaves
    open whether a key that is no candidate belongs to the k nearest (many near-equal keys), the next finer products are
    taken for that query, and all keys of the tile at last.

    Args:
        queries: any float dtype; normalized here. A zero row is similar to nothing (similarity 0).
        keys: likewise.
        k: at most the number of keys.
        device: where similarities are computed; results are on the CPU, float64 and int64.
        query_rows: queries of a tile; 0 takes as many as 128 MB of similarities allow.
        key_rows: keys of a tile.
    """
    query_rows = query_rows or max(16, _TILE // min(len(keys), key_rows))
    starts = range(0, len(queries), query_rows)
    best = [torch.empty(0, 0, dtype=torch.float64)] * len(starts)
    rows = [torch.empty(0, 0, dtype=torch.int64)] * len(starts)
    unit_queries = _unit(queries, device)
    for first in range(0, len(keys), key_rows):
        block = _unit(keys[first : first + key_rows], device)
        screens = screens_for(block, k, query_rows)
        for i, start in enumerate(starts):
            values, columns = _top(unit_queries[start : start + query_rows], block, min(k, len(block)), screens)
            if first:
                values = torch.cat([best[i], values], dim=1)
                columns = torch.cat([rows[i], columns + first], dim=1)  # among equals, the lower rows stand first
                values, order = values.sort(dim=1, descending=True, stable=True)
                columns = columns.gather(1, order)
            best[i], rows[i] = values[:, :k], columns[:, :k]
    return torch.cat(best).cpu(), torch.cat(rows).cpu()


def _unit(
    block: Float[np.ndarray, "m d"], device: torch.device | str, rows_at_once: int = 4096
) -> Float[Tensor, "m d"]:
    """Rows scaled to length 1, on a grid of 2^-24, which float32 holds exactly.

    Computed by numpy on the CPU in float64, row by row: the same bits wherever the block begins.
    """
    unit = np.empty(block.shape, np.float32)
    for start in range(0, len(block), rows_at_once):
        exact = np.asarray(block[start : start + rows_at_once], np.float64)
        norms = np.sqrt(np.square(exact).sum(axis=1, keepdims=True))
        unit[start : start + rows_at_once] = (
            np.rint(exact / np.maximum(norms, np.finfo(np.float64).tiny) * _GRID) / _GRID
        )
    return torch.from_numpy(unit).to(device)


def _top(
    queries: Float[Tensor, "q d"], keys: Float[Tensor, "m d"], k: int, screens: Sequence[Screen]
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Exact similarity and column of the k nearest of each row, by (similarity, lower column first)."""
    values = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
    columns = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    open_rows = torch.arange(len(queries), device=queries.device)
    for screen in screens:
        if not len(open_rows):
            break
        some = queries[open_rows]
        candidates, bound = screen.candidates(some, keys, k)
        exact = _exact(some, keys, candidates)
        exact, order = exact.sort(dim=1, descending=True, stable=True)
        values[open_rows], columns[open_rows] = exact[:, :k], candidates.gather(1, order)[:, :k]
        open_rows = open_rows[exact[:, k - 1] <= bound]
    for part in open_rows.split(max(1, _TILE // (4 * len(keys)))) if len(open_rows) else ():
        values[part], columns[part] = _top_exact(queries[part], keys, k)
    return values, columns


def _top_exact(
    queries: Float[Tensor, "q d"], keys: Float[Tensor, "m d"], k: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """``_top`` from all similarities, summed exactly."""
    similarity = queries.double() @ keys.double().T
    values, columns = similarity.sort(dim=1, descending=True, stable=True)
    return values[:, :k], columns[:, :k]


def _exact(
    queries: Float[Tensor, "q d"], keys: Float[Tensor, "m d"], columns: Int[Tensor, "q c"]
) -> Float[Tensor, "q c"]:
    """Similarities of some pairs, summed exactly."""
    if queries.device.type == "cpu":
        found = np.empty(columns.shape)
        _exact_pairs(queries.numpy(), keys.numpy(), columns.numpy(), found)
        return torch.from_numpy(found)
    at_once = max(1, (1 << 24) // (columns.shape[1] * queries.shape[1]))
    parts = zip(queries.split(at_once), columns.split(at_once), strict=True)
    return torch.cat([torch.einsum("qd,qcd->qc", some.double(), keys[which].double()) for some, which in parts])


@numba.njit(parallel=True, cache=True, fastmath={"reassoc", "nsz", "contract"})  # no sum rounds: any order will do
def _exact_pairs(queries: Any, keys: Any, columns: Any, out: Any) -> None:
    for q in numba.prange(len(queries)):
        for c in range(columns.shape[1]):
            key = keys[columns[q, c]]
            total = 0.0
            for i in range(len(key)):
                total += np.float64(queries[q, i]) * np.float64(key[i])
            out[q, c] = total
