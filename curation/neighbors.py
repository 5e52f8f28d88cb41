"""Nearest neighbours with faiss: exact, or by an inverted file (IVF) where exact search would take too long."""

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, DataError, MissingExtraError
from strata.curation.kmeans.source import Source, as_source, take_rows
from strata.curation.shards import shard_ranges

NeighborMetric = Literal["cosine", "euclidean"]
IndexKind = Literal["auto", "exact", "ivf"]
EXACT_PRODUCTS = 5e11  # "auto": multiply-adds up to which the search is exact, some 10 s of one core
BLOCK = 65_536  # rows read at once
PROBES = 16  # cells of the inverted file that are searched


class Neighbors:
    """An index over the rows of ``X`` [n, d], which it holds in memory as float32.

    Args:
        X: array, memory map or EmbeddingStore.
        metric: "cosine" (distance 1 - cos) or "euclidean".
        index: "exact", "ivf", or "auto": exact for up to 5e11 products of ``n_queries`` x n x d.
        n_queries: how many rows will be searched for.

    Raises:
        ConfigError: an unknown option. DataError: rows that are not finite or, with cosine, of zeros.
        MissingExtraError: faiss is not installed.
    """

    def __init__(
        self, X: Any, metric: NeighborMetric = "cosine", index: IndexKind = "auto", n_queries: int | None = None
    ) -> None:
        check_options(metric, index)
        faiss = _faiss()
        self.source: Source = as_source(X)
        self.metric = metric
        n, d = self.source.shape
        # Both metrics are searched as |x - y|^2 (of unit rows: 2 - 2 cos), of centred rows: these keep their digits
        # where all rows share a large offset, or nearly a direction.
        self._center = np.zeros(d)
        spans = list(shard_ranges(n, BLOCK))
        totals = [self._centered(self.source.read(span.start, span.stop), span.start).sum(axis=0) for span in spans]
        self._center = np.sum(totals, axis=0) / n
        products = float(n if n_queries is None else n_queries) * n * d
        self.exact = index == "exact" or n < 1000 or (index == "auto" and products <= EXACT_PRODUCTS)
        self._index = faiss.IndexFlatL2(d) if self.exact else self._trained(faiss)
        for span in spans:
            self._index.add(self._prepared(self.source.read(span.start, span.stop), span.start))

    def search(
        self, queries: Float[np.ndarray, "m d"], k: int, *, everywhere: bool = False
    ) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
        """Distances (float64, computed from the rows themselves) and rows of the k nearest, nearest first.

        Of equal distances the lower row comes first. Where fewer are found, the rest is inf and -1.

        Args:
            queries: rows to search for; neither normalized nor centred.
            k: at most n.
            everywhere: search all cells of an inverted file: slow and exact.
        """
        faiss = _faiss()
        probes = faiss.SearchParametersIVF(nprobe=self._index.nlist) if everywhere and not self.exact else None
        prepared = self._prepared(queries, 0)
        _, rows = self._index.search(prepared, min(k, self.source.shape[0]), params=probes)
        distance = self._distances(queries, rows)
        order = np.lexsort((rows, distance), axis=1)
        return np.take_along_axis(distance, order, 1), np.take_along_axis(rows, order, 1)

    def within(self, queries: Float[np.ndarray, "m d"], cosine: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (query, row) with a cosine of about ``cosine`` or more (nothing below it is missed by an exact index).

        For metric="cosine". The margin is that of float32: check the pairs with ``cosines``.
        """
        limits, _, rows = self._index.range_search(self._prepared(queries, 0), 2 - 2 * (cosine - 1e-5))
        return np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64))), rows

    def _prepared(self, values: NDArray[Any], first: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._centered(values, first), np.float32)

    def _centered(self, values: NDArray[Any], first: int) -> NDArray[np.float64]:
        return (unit_rows(values, first) if self.metric == "cosine" else finite_rows(values, first)) - self._center

    def _trained(self, faiss: Any) -> Any:
        n, d = self.source.shape
        cells = int(4 * np.sqrt(n))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, cells)
        index.cp.seed, index.cp.niter, index.nprobe = 0, 10, PROBES
        chosen = np.sort(np.random.default_rng(0).choice(n, min(n, 40 * cells), replace=False))
        index.train(self._prepared(take_rows(self.source, chosen), 0))
        return index

    def _distances(self, queries: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 distances [m, k], from differences: no digits are lost, and equal rows are exactly 0 apart."""
        distance = np.full(rows.shape, np.inf)
        step = max(1, (1 << 23) // max(1, rows.shape[1] * self.source.shape[1]))
        for start in range(0, len(rows), step):
            here = rows[start : start + step]
            near = take_rows(self.source, np.maximum(here, 0).ravel())
            own = queries[start : start + step]
            if self.metric == "cosine":
                near, own = unit_rows(near), unit_rows(own)
            near = near.reshape(*here.shape, -1)
            apart = np.square(near.astype(np.float64) - own.astype(np.float64)[:, None]).sum(-1)
            distance[start : start + step] = apart / 2 if self.metric == "cosine" else np.sqrt(apart)
        distance[rows < 0] = np.inf
        return distance


def nearest_others(neighbors: Neighbors, k: int) -> Float[np.ndarray, "n k"]:
    """Distances of each row to its k nearest other rows, ascending. k is at most n - 1."""
    n = neighbors.source.shape[0]
    found = np.empty((n, k))
    for span in shard_ranges(n, BLOCK):
        rows = np.arange(span.start, span.stop)
        queries = neighbors.source.read(span.start, span.stop)
        distance, near = neighbors.search(queries, k + 1)
        few = np.flatnonzero(near[:, k] < 0)  # the cells searched hold less than k + 1 rows
        if len(few):
            distance[few], near[few] = neighbors.search(queries[few], k + 1, everywhere=True)
        distance[near == rows[:, None]] = -1.0  # itself, now first; of k + 1 rows as near as itself, the last goes
        missed = ~(near == rows[:, None]).any(1)
        distance = np.sort(distance, axis=1)
        found[span.start : span.stop] = np.where(missed[:, None], distance[:, :k], distance[:, 1:])
    return found


def cosines(a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
    """Cosine of each pair of rows, float64."""
    return np.einsum("md,md->m", unit_rows(a), unit_rows(b))


def unit_rows(values: NDArray[Any], first: int = 0) -> Float[np.ndarray, "m d"]:
    """Rows scaled to length 1, float64. Raises DataError for a row of zeros or one that is not finite."""
    rows = finite_rows(values, first)
    length = np.linalg.norm(rows, axis=1)
    if not length.all():
        raise DataError(f"row {first + int(np.argmin(length))} is all zeros and has no cosine; remove it")
    return rows / length[:, None]


def finite_rows(values: NDArray[Any], first: int = 0) -> Float[np.ndarray, "m d"]:
    """Rows as float64. Raises DataError for one that is not finite."""
    rows = np.asarray(values, np.float64)
    good = np.isfinite(rows).all(axis=1)
    if not good.all():
        raise DataError(f"row {first + int(np.argmin(good))} is not finite; embed again")
    return rows


def check_options(metric: str, index: str) -> None:
    """Raise ConfigError for an unknown metric or index."""
    if metric not in get_args(NeighborMetric):
        raise ConfigError("sampler.metric", f"{metric!r} is unknown", f"use one of {get_args(NeighborMetric)}")
    if index not in get_args(IndexKind):
        raise ConfigError("sampler.index", f"{index!r} is unknown", f"use one of {get_args(IndexKind)}")


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "cpu") from error
    return faiss
