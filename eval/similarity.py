"""Whole rankings of a database by cosine similarity, the same for any tiling, thread count or device."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GRID = 2.0**24
QUERIES_AT_ONCE = 16
ROWS_AT_ONCE = 65536


def rank_all(
    queries: Float[np.ndarray, "n d"], database: Float[np.ndarray, "m d"], device: torch.device | str = "cpu"
) -> Iterator[Int[np.ndarray, " m"]]:
    """Rows of the database for each query in turn, most similar first; equal ones in the order of the rows.

    At most 16 x m similarities exist at once. They are exact: unit vectors are rounded to multiples of 2^-24, finer than
    float32 features are known, so that every partial sum of products fits a float64 and no addition rounds.
    """
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        tile = _unit(queries[start : start + QUERIES_AT_ONCE], device)
        parts = [
            (tile @ _unit(database[first : first + ROWS_AT_ONCE], device).T)
            for first in range(0, len(database), ROWS_AT_ONCE)
        ]
        order = torch.cat(parts, dim=1).sort(dim=1, descending=True, stable=True).indices
        yield from order.cpu().numpy()


def _unit(block: Float[np.ndarray, "m d"], device: torch.device | str) -> Float[Tensor, "m d"]:
    exact = block.astype(np.float64)
    norms = np.sqrt(np.square(exact).sum(axis=1, keepdims=True))
    unit = np.rint(exact / np.maximum(norms, np.finfo(np.float64).tiny) * _GRID) / _GRID
    return torch.from_numpy(unit).to(device)
