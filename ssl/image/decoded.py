"""Decoded images kept on disk: a memory-mapped file per pool and size, filled once, shared by runs and processes."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from numpy.lib.format import open_memmap

from strata.curation.errors import DataError
from strata.curation.pools.band_scale import BandScale

VERSION = 1  # raised when the same pool, size and scale of the bands give other pixels
_BLOCK = 256  # images decoded between two writes


class DecodedImages:
    """Rows of a pool as uint8 squares in ``<folder>/<key>/images.npy`` [n, c, size, size], a sparse file of its final length.

    A row counts as there once ``rows.npy`` says so (1; 0: not there), which is written after its pixels have reached the
    disk: a killed run leaves no half image, and the next one decodes only what is missing. One process at a time fills
    (a lock file); others wait, then find it done.

    Args:
        folder: holds one sub-folder for each pool, size and way to fit.
        fingerprint: of the pool.
        n: rows of the pool.
        size: side of the squares.
        fit: see ``ImageSSLConfig``.
        scale: of tiles; None: RGB images.

    Raises:
        DataError: the folder cannot be written, or its files are damaged.
    """

    def __init__(
        self, folder: Path, fingerprint: str, n: int, size: int, fit: str, scale: BandScale | None = None
    ) -> None:
        told = f"{fingerprint} {size} {fit} {VERSION}" + (f" {scale}" if scale else "")
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        self.folder = folder.expanduser() / f"{key}-{size}px"
        bands = scale.n_bands if scale else 3
        shapes = {"images": (n, bands, size, size), "rows": (n,), "extents": (n, 2)}
        types: dict[str, type] = {"images": np.uint8, "rows": np.uint8, "extents": np.int16}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                for name, shape in shapes.items():
                    self._create(name, shape, types[name])
            opened = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r+") for name in shapes}
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}: decoded images cannot be kept there ({error}); give another") from error
        for name, shape in shapes.items():
            if opened[name].shape != shape or opened[name].dtype != types[name]:
                raise DataError(f"{self.folder}/{name}.npy is damaged; delete the folder")
        self.images: UInt8[np.ndarray, "n c size size"] = opened["images"]
        self.extents: Int[np.ndarray, "n 2"] = opened["extents"]
        self._rows: UInt8[np.ndarray, " n"] = opened["rows"]

    def has(self, rows: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which rows are there."""
        there: Bool[np.ndarray, " m"] = self._rows[rows] == 1
        return there

    def fill(
        self,
        rows: Int[np.ndarray, " m"],
        decode: Callable[[Int[np.ndarray, " b"]], tuple[np.ndarray, np.ndarray]],
        done: Callable[[int], object],
    ) -> None:
        """Decode those of ``rows`` that are missing.

        Args:
            rows: of the pool.
            decode: gives the squares and extents of some rows.
            done: told how many more rows are there.
        """
        rows = np.unique(rows)
        if self.has(rows).all():
            done(len(rows))
            return
        with self._locked():
            missing = rows[~self.has(rows)]
            done(len(rows) - len(missing))
            for start in range(0, len(missing), _BLOCK):
                block = missing[start : start + _BLOCK]
                self.images[block], self.extents[block] = decode(block)
                for name in ("images", "extents"):
                    self._flush(name)
                self._rows[block] = 1
                self._flush("rows")
                done(len(block))

    def _create(self, name: str, shape: tuple[int, ...], dtype: type) -> None:
        """An array of zeros that takes no room before it is written; whole or not at all."""
        final = self.folder / f"{name}.npy"
        if not final.exists():
            temporary = final.with_suffix(".tmp")
            open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
            temporary.replace(final)

    def _flush(self, name: str) -> None:
        with open(self.folder / f"{name}.npy", "r+b") as stream:  # fsync writes what any map of the file has changed
            os.fsync(stream.fileno())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / "lock", "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield  # closing the file gives the lock back
