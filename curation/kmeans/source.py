"""Where the rows come from: an array, a memory map, a tensor or an embedding store, all read the same way."""

import mmap
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from strata.curation.errors import ConfigError

BLOCK = 65_536  # rows per block: sums are formed per block and added in block order, whatever the chunks or threads


class Source(Protocol):
    """Rows of a matrix [n, d], e.g. an ``EmbeddingStore``."""

    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``."""
        ...


class ArrayRows:
    """A matrix in memory (or memory-mapped) as a source."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``, a view."""
        return self.array[start:stop]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The given rows, in the given order."""
        taken: NDArray[Any] = self.array[rows]
        return taken


class TakenRows:
    """Given rows of another source as a source; those from ``first`` to ``last`` are read once and held."""

    def __init__(self, source: Source, rows: NDArray[np.int64], first: int, last: int) -> None:
        self.source, self.rows, self.first, self.last = source, rows, first, last
        self.shape: tuple[int, int] = (len(rows), source.shape[1])
        self.held = take_rows(source, rows[first:last])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``."""
        if self.first <= start and stop <= self.last:
            return self.held[start - self.first : stop - self.first]
        return take_rows(self.source, self.rows[start:stop])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The given rows, in the given order."""
        return take_rows(self.source, self.rows[rows])


def as_source(X: Any) -> Source:
    """Anything [n, d] as a source: an object with ``shape`` and ``read(start, stop)`` is one already.

    Raises:
        ConfigError: not a non-empty matrix of real numbers.
    """
    if hasattr(X, "read") and hasattr(X, "shape"):
        _check_shape(tuple(X.shape))
        source: Source = X
        return source
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    array = np.asanyarray(X)
    _check_shape(array.shape)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ConfigError("X", f"dtype {array.dtype}", "give real numbers of at most 64 bits")
    return ArrayRows(array)


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise ConfigError("X", f"shape {tuple(shape)}", "give a non-empty array [n, d]")


def release(values: Any) -> None:
    """Give the pages of the memory map behind ``values`` back: they are in the page cache, not in this process's share.

    Without it a pass over a map larger than memory makes all of it resident.
    """
    # A copy-on-write map ("c") would lose what was written to it.
    if isinstance(values, np.memmap) and values.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        pages: mmap.mmap = values._mmap  # type: ignore[attr-defined]
        pages.madvise(mmap.MADV_DONTNEED)


def take_rows(source: Source, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Given rows of a source, in the given order; one that only reads ranges is read once, block by block."""
    if hasattr(source, "take"):
        taken: NDArray[Any] = source.take(rows)
        return taken
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    out = np.empty((len(rows), source.shape[1]), source.read(0, 1).dtype)
    for start in range(0, source.shape[0], BLOCK):
        first, last = np.searchsorted(ordered, (start, start + BLOCK))
        if first < last:
            block = source.read(start, min(start + BLOCK, source.shape[0]))
            out[order[first:last]] = block[ordered[first:last] - start]
    return out
