"""The points of one k-means: rows of a source, centered and scaled for products, exact for comparisons."""

import hashlib
import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.group import ALONE, Group
from strata.curation.kmeans.memory import ReadAhead
from strata.curation.kmeans.share import Share
from strata.curation.kmeans.source import BLOCK, TakenRows, as_source, release, take_rows

Metric = Literal["euclidean", "cosine"]
DTypeName = Literal["auto", "float32", "float64"]
STEP = 8192  # rows whose float64 copy is held at a time
SMALLEST, LARGEST = 1e-140, 1e140  # spread of float64 values: their squares must neither vanish nor overflow
CACHE_BYTES = 8 << 30  # the centered copy is kept in memory up to this size, else made again in each pass


class Points:
    """Rows [n, d] as k-means sees them.

    Two views of the same rows. ``exact``: float64, as given (cosine: normalized); distances that decide anything are
    computed on it. ``centered``: minus the mean and times a power of two so that all values lie in [-1, 1], in
    ``dtype`` on ``device``, for matrix products: without centering, float32 products lose the nearest centroid of a
    third of the points when the mean is 1000 standard deviations away.

    Args:
        X: ndarray, memmap, tensor or anything with ``shape`` and ``read(start, stop)``, [n, d].
        metric: "euclidean", or "cosine": rows are normalized (spherical k-means).
        dtype: of the centroids and products; "auto" is float64 for float64 or integer rows, else float32.
        device: "auto" is CUDA where there is one.
        group: processes over which the rows are spread. Each is given the same X (a memory map or store, so that none
            holds it all) and reads its own blocks. ``n`` and row numbers are then those of its own rows, the first of
            which is row ``first`` of all ``total``; ``rows_anywhere`` and ``subset`` take numbers of all rows.
        memory: bytes that may be held of the rows (the default is ``CACHE_BYTES``). Centered rows that need more than
            half of it are made block by block in each pass, read ahead by a thread, and memory maps give their pages
            back. Besides it there are the centroids, 24 bytes per row, and the products of a tile per thread.
        shared: centroids are shared out over the group (see ``strata.curation.kmeans.share``): what k-means takes and
            gives as [k, d] is then the part of this process.

    Raises:
        ConfigError: an unknown metric, dtype or device, or X is not a matrix.
        DataError: NaN, infinite or (euclidean) enormous values, or (cosine) rows of zeros; names the first rows.
            Or values so small that their squares vanish, or that float32 centroids cannot hold.
    """

    def __init__(
        self,
        X: Any,
        *,
        metric: Metric = "euclidean",
        dtype: DTypeName = "auto",
        device: str = "auto",
        group: Group = ALONE,
        memory: int | None = None,
        shared: bool = False,
    ) -> None:
        if metric not in get_args(Metric):
            raise ConfigError("hierarchy.metric", f"{metric!r} is unknown", f"use one of {get_args(Metric)}")
        self.source = as_source(X)
        self.metric: Metric = metric
        self.total, self.d = self.source.shape
        self.group, self.shared = group, shared
        self.first, stop = group.span(self.total)
        self.n = stop - self.first
        self.dtype = _dtype(dtype, self.source.read(0, 1).dtype)
        self.device = resolve_device(device, "hierarchy.device")
        self.screen: torch.dtype | None = None  # of the products that screen; found out as they are made
        held = self.n * self.d * self.dtype.itemsize
        self.fits = held <= CACHE_BYTES if memory is None else 2 * held <= memory
        self.center, reach = self._measure()
        self.scale = 2.0 ** -math.frexp(reach)[1] if reach > 0 else 1.0
        self.reach = reach * self.scale  # largest centered value, 0.5 to 1; 0 where all rows are the same
        self._cache: list[Tensor] | None = None
        if self.fits:
            self._cache = [self._center_block(*block) for block in self.blocks()]
        self._ahead = ReadAhead(self._center_block, self.n, BLOCK)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Row ranges (start, stop) of the fixed blocks."""
        for start in range(0, self.n, BLOCK):
            yield start, min(start + BLOCK, self.n)

    def share(self, k: int) -> Share:
        """Which of ``k`` centroids this process holds."""
        return Share(k, self.group if self.shared else ALONE)

    @property
    def first_block(self) -> int:
        """Number of the first block of this process among those of all."""
        return self.first // BLOCK

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """A range in steps that are small enough to hold in float64."""
        for low in range(start, stop, STEP):
            yield low, min(low + STEP, stop)

    def exact(self, start: int, stop: int) -> Float[np.ndarray, "m d"]:
        """Rows of a range in float64 (cosine: normalized)."""
        values = self.source.read(self.first + start, self.first + stop)
        rows = self._normalized(values)
        self._release(values)
        return rows

    def exact_rows(self, rows: NDArray[np.int64]) -> Float[np.ndarray, "m d"]:
        """Given rows in float64 (cosine: normalized)."""
        return self.rows_anywhere(rows + self.first)

    def rows_anywhere(self, rows: NDArray[np.int64]) -> Float[np.ndarray, "m d"]:
        """As ``exact_rows``, of rows that may be those of other processes."""
        return self._normalized(take_rows(self.source, rows))

    def centered(self, start: int, stop: int) -> Float[Tensor, "m d"]:
        """One block, centered and scaled, on the device."""
        return self._ahead.get(start, stop) if self._cache is None else self._cache[start // BLOCK]

    def center_values(self, values: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
        """Values in the space of the rows (e.g. centroids) centered and scaled as the points are, float64."""
        centered: NDArray[np.float64] = (values - self.center) * self.scale
        return centered

    def to_device(self, values: NDArray[np.float64]) -> Tensor:
        """A float64 array on the device, in the dtype of the products."""
        return torch.from_numpy(values).to(self.device, self.dtype)

    def subset(self, rows: NDArray[np.int64], group: Group = ALONE) -> Self:
        """The given rows as points of their own, of this process or spread over a group."""
        dtype: DTypeName = "float64" if self.dtype == torch.float64 else "float32"
        taken = (
            take_rows(self.source, rows) if group.size == 1 else TakenRows(self.source, rows, *group.span(len(rows)))
        )
        self._release(self.source.read(0, 1))
        device = str(self.device)
        return type(self)(taken, metric=self.metric, dtype=dtype, device=device, group=group, shared=self.shared)

    def fingerprint(self) -> str:
        """Hash of shape, type and values of the rows as given, the same for any number of processes: one more pass."""
        marks = []
        for start, stop in self.blocks():
            mark = 0
            for low, high in self.steps(start, stop):
                values = self.source.read(self.first + low, self.first + high)
                mark = zlib.crc32(np.ascontiguousarray(values).tobytes(), mark)
                self._release(values)
            marks.append(mark)
        kind = self.source.read(0, 1).dtype.str
        every = self.group.concatenated(np.array(marks, np.int64))
        described = f"{self.total} {self.d} {kind} {self.dtype} {self.device.type} {self.center.tobytes().hex()}"
        return hashlib.sha256(described.encode() + every.tobytes()).hexdigest()

    def sum(self, values: Float[np.ndarray, " n"]) -> float:
        """Sum of one number per row over the rows of all processes: float64, per block and then block by block."""
        parts = np.array([values[start:stop].sum() for start, stop in self.blocks()], np.float64)
        total = 0.0
        for part in self.group.concatenated(parts).tolist():
            total += part
        return total

    def sum_by_label(
        self, labels: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], k: int
    ) -> Float[np.ndarray, " k"]:
        """The same per label in [0, k)."""
        sums = [np.zeros(k)]
        for low, high in self.blocks():
            sums.append(np.bincount(labels[low:high], values[low:high], minlength=k).astype(np.float64))
        return self.group.ordered_sum(sums)

    def counts(self, labels: Int[np.ndarray, " n"], k: int) -> Int[np.ndarray, " k"]:
        """How many rows of all processes have each label in [0, k)."""
        return self.group.sum(np.bincount(labels, minlength=k))

    @property
    def numpy_dtype(self) -> Any:
        """Dtype of the centroids."""
        return np.float64 if self.dtype == torch.float64 else np.float32

    def _normalized(self, values: NDArray[Any]) -> NDArray[np.float64]:
        rows = np.array(values, np.float64, order="C")
        if self.metric == "cosine":
            _temper(rows)
            rows /= np.sqrt(np.square(rows).sum(1, keepdims=True))
        return rows

    def _release(self, values: NDArray[Any]) -> None:
        if not self.fits:
            release(values)

    def _center_block(self, start: int, stop: int) -> Tensor:
        out = torch.empty(stop - start, self.d, dtype=self.dtype, device=self.device)
        for low, high in self.steps(start, stop):
            out[low - start : high - start] = self.to_device(self.center_values(self.exact(low, high)))
        return out

    def _measure(self) -> tuple[NDArray[np.float64], float]:
        """Mean of the rows, and the largest value less the mean."""
        low, high = np.full(self.d, np.inf), np.full(self.d, -np.inf)
        totals, error = [np.zeros(self.d)], None
        try:
            for block in self.blocks():
                totals.append(np.zeros(self.d))
                for start, stop in self.steps(*block):
                    values = self.source.read(self.first + start, self.first + stop)
                    _check_rows(values, self.first + start, self.metric)
                    rows = self._normalized(values)
                    totals[-1] += rows.sum(0)
                    low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
                    self._release(values)
        except DataError as found:
            error = found
        self.group.agree(error)
        center = self.group.ordered_sum(totals) / self.total
        low, high = self.group.smallest(low), -self.group.smallest(-high)
        reach = float(np.maximum(high - center, center - low).max())
        if 0 < reach < (SMALLEST if self.dtype == torch.float64 else 1e-43):
            raise DataError(f"X differs by {reach:.1e} at most in all rows, too little for {self.dtype}; multiply it")
        if self.dtype == torch.float32 and max(high.max(), -low.min()) > np.finfo(np.float32).max:
            raise DataError(
                f"X has values up to {max(high.max(), -low.min()):.1e}, too large for dtype=float32; divide it"
            )
        return center, reach


def _temper(rows: NDArray[np.float64]) -> None:
    """Bring rows of enormous or tiny values near 1 by a power of two, so that their squares stay in range."""
    largest = np.abs(rows).max(1)
    wild = np.flatnonzero((largest > 1e100) | (largest < 1e-100))
    if len(wild):
        rows[wild] = np.ldexp(rows[wild], -np.frexp(largest[wild])[1][:, None])


def _check_rows(values: NDArray[Any], start: int, metric: str) -> None:
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(bad)[:5] + start)
        raise DataError(f"X has NaN or infinite values in row(s) {rows}; remove these rows or embed them again")
    if metric == "euclidean" and values.dtype.itemsize == 8 and values.dtype.kind == "f":
        large = (np.abs(values) > LARGEST).any(1)
        if large.any():
            rows = ", ".join(str(row) for row in np.flatnonzero(large)[:5] + start)
            raise DataError(f"X has values beyond {LARGEST:.0e} in row(s) {rows}; divide X, or remove these rows")
    if metric == "cosine":
        zero = ~(values != 0).any(1)
        if zero.any():
            rows = ", ".join(str(row) for row in np.flatnonzero(zero)[:5] + start)
            raise DataError(f"X is zero in row(s) {rows}, which have no direction; remove them or use metric=euclidean")


def _dtype(name: str, given: np.dtype[Any]) -> torch.dtype:
    if name not in get_args(DTypeName):
        raise ConfigError("hierarchy.dtype", f"{name!r} is unknown", f"use one of {get_args(DTypeName)}")
    if name == "auto":
        name = "float32" if given in (np.float16, np.float32) else "float64"
    return torch.float64 if name == "float64" else torch.float32


def as_points(
    X: Any, *, metric: Metric = "euclidean", dtype: DTypeName = "auto", device: str = "auto", memory: int | None = None
) -> Points:
    """``X`` if it is ``Points`` already (the settings are then its own), else points made of it."""
    return X if isinstance(X, Points) else Points(X, metric=metric, dtype=dtype, device=device, memory=memory)
