"""Raster files as rasterio opens them: what the header says, and windows read from them."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from strata.curation.errors import DataError, MissingExtraError

KEPT_OPEN = 16  # files per thread


def rasterio_module() -> Any:
    """rasterio, its warning about rasters without a place on earth silenced.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise MissingExtraError("rasterio", "satellite") from error
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


@dataclass(frozen=True)
class RasterFile:
    """The header of a file.

    Attributes:
        path: of the file.
        height: in pixels.
        width: in pixels.
        count: number of bands.
        dtype: numpy's name; the same for all bands.
        crs: WKT of the coordinate reference system, or None.
        transform: affine a, b, c, d, e, f: x = a * column + b * row + c, y = d * column + e * row + f.
        may_lack: whether pixels may be missing: a nodata value, a mask, an alpha band, or floats (NaN).
    """

    path: Path
    height: int
    width: int
    count: int
    dtype: str
    crs: str | None
    transform: tuple[float, ...]
    may_lack: bool

    @classmethod
    def read(cls, path: Path) -> "RasterFile":
        """Read the header.

        Raises:
            DataError: GDAL cannot open the file, or its bands differ in type.
        """
        rasterio = rasterio_module()
        try:
            with rasterio.open(path) as file:
                dtypes = sorted(set(file.dtypes))
                masked = any(rasterio.enums.MaskFlags.all_valid not in flags for flags in file.mask_flag_enums)
                crs = file.crs.to_wkt() if file.crs else None
                size, transform = (file.height, file.width, file.count), tuple(file.transform)[:6]
        except rasterio.errors.RasterioError as error:
            raise DataError(f"{path} cannot be opened as a raster ({error}); remove it or fetch it again") from error
        if len(dtypes) > 1:
            raise DataError(f"{path} has bands of different types ({', '.join(dtypes)}); write it with one")
        return cls(path, *size, dtypes[0], crs, transform, masked or np.dtype(dtypes[0]).kind == "f")

    def bounds(self, row: int, column: int, height: int, width: int) -> list[tuple[float, float]]:
        """The four corners of a window in the file's coordinates, as a ring without its last point."""
        a, b, c, d, e, f = self.transform
        corners = ((column, row), (column + width, row), (column + width, row + height), (column, row + height))
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]


class OpenRasters:
    """Files kept open, some per thread (GDAL's handles must not be shared), and none when pickled."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._local = threading.local()

    def read(
        self, path: Path, bands: Sequence[int], row: int, column: int, height: int, width: int
    ) -> tuple[Shaped[np.ndarray, "c h w"], Bool[np.ndarray, "c h w"]]:
        """Values and validity of a window. ``bands`` count from 1. Raises rasterio's RasterioIOError."""
        file = self._file(path)
        window = rasterio_module().windows.Window(column, row, width, height)
        values = file.read(list(bands), window=window)
        valid = file.read_masks(list(bands), window=window) > 0
        if values.dtype.kind == "f":
            valid &= np.isfinite(values)
        return values, valid

    def _file(self, path: Path) -> Any:
        held: OrderedDict[Path, Any] = self._local.__dict__.setdefault("held", OrderedDict())
        if path in held:
            held.move_to_end(path)
            return held[path]
        held[path] = rasterio_module().open(path)
        if len(held) > KEPT_OPEN:
            held.popitem(last=False)[1].close()
        return held[path]
