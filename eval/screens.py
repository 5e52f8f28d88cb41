"""Which keys can be among the k nearest of a query: cheap products with a bound on their error name the candidates."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.kmeans.match import has_bfloat16
from strata.eval.products import product, summation_error

_GROUP = 16  # columns whose largest similarity stands for them


class Screen:
    """Float32 products of unit vectors.

    Args:
        keys: unit vectors.
        spare: candidates to name beyond k.
    """

    def __init__(self, keys: Float[Tensor, "m d"], spare: int = 16) -> None:
        self.keys, self.spare = keys, spare

    def candidates(self, queries: Float[Tensor, "q d"], keys: Float[Tensor, "m d"], k: int) -> tuple[Tensor, Tensor]:
        """Columns [q, k + spare] in ascending order, and what no other column's exact similarity is above [q], float64."""
        rough, columns = top_by_groups(self._rough(queries), k + self.spare)
        cut = rough.amin(dim=1).double()
        return columns.sort(dim=1).values, cut + self._error(queries, cut)

    def _rough(self, queries: Float[Tensor, "q d"]) -> Float[Tensor, "q m"]:
        return product(queries, self.keys)

    def _error(self, queries: Float[Tensor, "q d"], cut: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
        return torch.full_like(cut, summation_error(queries.shape[1], queries.device))


class LowScreen(Screen):
    """Bfloat16 products: three to five times as many a second as float32 ones, on processors that have them.

    By Cauchy and Schwarz |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|, and the lengths of what rounding took are known.
    """

    def __init__(self, keys: Float[Tensor, "m d"], query_rows: int, spare: int) -> None:
        super().__init__(keys, spare)
        self.low = keys.bfloat16()
        self.lost = float((keys - self.low.float()).norm(dim=1).max())
        self._out = torch.empty(query_rows, len(keys), dtype=torch.bfloat16)

    def _rough(self, queries: Float[Tensor, "q d"]) -> Float[Tensor, "q m"]:
        return torch.mm(queries.bfloat16(), self.low.T, out=self._out[: len(queries)])

    def _error(self, queries: Float[Tensor, "q d"], cut: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
        lost = (queries - queries.bfloat16().float()).norm(dim=1).double()
        summed = summation_error(queries.shape[1], "cpu")
        return 1.01 * (lost + self.lost + lost * self.lost) + summed + 2.0**-8 * cut.abs() + 2.0**-120


def screens_for(keys: Float[Tensor, "m d"], k: int, query_rows: int) -> Sequence[Screen]:
    """From the cheapest to the finest; none if there are so few keys that all may as well be summed exactly."""
    screens: list[Screen] = []
    if keys.device.type == "cpu" and has_bfloat16():
        screens.append(LowScreen(keys, query_rows, spare=max(64, k // 2)))
    screens.append(Screen(keys))
    return [screen for screen in screens if len(keys) > 4 * (k + screen.spare)]


def top_by_groups(similarity: Float[Tensor, "q m"], k: int) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k largest of each row, in no order; of equals any.

    The k largest stand in the k groups of columns whose maxima are largest, so only those are searched: one pass over
    all similarities that keeps a maximum, where ``topk`` moves them about.
    """
    q, m = similarity.shape
    whole = m - m % _GROUP
    if whole // _GROUP <= k:
        values, columns = similarity.float().topk(k, dim=1, sorted=False)
        return values, columns
    groups = similarity[:, :whole].unflatten(1, (-1, _GROUP))
    chosen = _maxima(groups).topk(k, dim=1, sorted=False).indices  # q k
    inside = torch.arange(_GROUP, device=similarity.device)
    columns = (chosen[:, :, None] * _GROUP + inside).flatten(1)
    found = groups.gather(1, chosen[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    if whole < m:
        rest = torch.arange(whole, m, device=similarity.device).expand(q, -1)
        columns, found = torch.cat([columns, rest], dim=1), torch.cat([found, similarity[:, whole:]], dim=1)
    values, order = found.float().topk(k, dim=1, sorted=False)
    return values, columns.gather(1, order)


def _maxima(groups: Float[Tensor, "q g w"]) -> Float[Tensor, "q g"]:
    if groups.dtype != torch.bfloat16 or groups.device.type != "cpu":
        return groups.amax(dim=2)
    bits = np.empty(groups.shape[:2], np.int32)  # torch's own maximum is ten times as slow in bfloat16
    _group_maxima(groups.view(torch.int16).numpy(), bits)
    return torch.from_numpy((bits << 16).view(np.float32))


@numba.njit(parallel=True, cache=True)
def _group_maxima(groups: Any, out: Any) -> None:
    """Largest bfloat16 of each group, all given as bits. Bits below 0 (the sign) are turned over so that order is kept."""
    for q in numba.prange(groups.shape[0]):
        for g in range(groups.shape[1]):
            best = np.int16(-32768)
            for i in range(groups.shape[2]):
                bits = groups[q, g, i]
                best = max(best, np.int16(bits ^ ((bits >> 15) & 0x7FFF)))
            out[q, g] = best ^ ((best >> 15) & 0x7FFF)
