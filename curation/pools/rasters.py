"""Tiles of raster files (GeoTIFF and what else GDAL reads): any number of bands, read window by window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_json, digest_tree
from strata.curation.pools.items import check_row, pool_name
from strata.curation.pools.raster_files import OpenRasters, RasterFile, rasterio_module
from strata.curation.pools.tile_table import read_tile_table
from strata.curation.pools.windows import Edges, check_windows, starts
from strata.curation.progress import progress

EXTENSIONS = (".tif", ".tiff", ".jp2", ".vrt")


class RasterPool:
    """Square windows of raster files as items.

    An item is an array [bands, height, width] in the files' own type (kind "tiles"), or an RGB image (kind "images")
    where three uint8 bands are read. Files may differ in size and in coordinate reference system; each tile keeps its own
    (``footprints``). Missing pixels take the mean of their band's valid pixels in the tile; a tile lacks a pixel where any
    band does. A tile's id is ``<file>:<row>:<column>`` of its first pixel; the class is the first-level folder, if there
    are folders.

    Args:
        path: a file, or a folder whose rasters are read at any depth; looked up as by ``resolve_data_path``.
        tile: side of a tile in pixels; None: each file is one tile, and all must have the same size.
        stride: pixels from one tile to the next; default: ``tile``.
        edges: "drop" leaves out the rest at the right and lower edge; "shift" moves a last tile inwards.
        bands: which bands, counted from 1; default: all of the first file.
        table: CSV of the tiles to read instead of a grid: row, col, size (pixels), and optionally file and split.
        split: only the rows of the table with this value of ``split``.
        max_missing: leave out tiles that lack a larger share of their pixels, 0 to 1. Below 1 this reads the masks of all
            tiles when the pool is opened, unless no pixel can be missing.
        items: "auto", "images" or "tiles", see above.
        extensions: endings that make a file a raster, in any case.
        name: defaults to the name of the folder or file, and the split.

    Raises:
        ConfigError: a bad setting, no rasters, or no tile that is whole enough. MissingExtraError: no rasterio.
        DataError: a file cannot be opened, lacks a band, or has another type than the first.
    """

    def __init__(
        self,
        path: str,
        tile: int | None = None,
        stride: int | None = None,
        edges: Edges = "drop",
        bands: Sequence[int] | None = None,
        table: str | None = None,
        split: str | None = None,
        max_missing: float = 0.0,
        items: Literal["auto", "images", "tiles"] = "auto",
        extensions: Sequence[str] = EXTENSIONS,
        name: str | None = None,
    ) -> None:
        check_windows(tile, stride, edges)
        if not 0 <= max_missing <= 1:
            raise ConfigError("pool.max_missing", f"is {max_missing}", "give a share from 0 to 1")
        if table is not None and (tile is not None or stride is not None):
            raise ConfigError("pool.tile", "is given beside pool.table", "leave one of them out")
        if split is not None and table is None:
            raise ConfigError("pool.split", f"is {split!r} without pool.table", "give the table that has the splits")
        self._asked = {
            "tile": tile, "stride": stride, "edges": edges, "split": split, "max_missing": float(max_missing),
        }  # fmt: skip
        self._source, self._table = path, table
        place = resolve_data_path(path)
        self._root, self._names = _raster_names(place, extensions)
        self.files = [RasterFile.read(self._root / file) for file in self._names]
        self.bands = list(bands) if bands is not None else list(range(1, self.files[0].count + 1))
        self.dtype = np.dtype(self.files[0].dtype)
        self._check_files()
        self.kind: Kind = self._kind(items)
        self._open = OpenRasters()
        self._where = self._windows(tile, stride, edges, split)  # [n, 4]: file, row, column, side (height)
        self._where = self._whole_enough(max_missing)
        self.name = pool_name(name, place.stem if place.is_file() else place.name, split)
        self.labels: NDArray[np.int64] | None = None
        self.label_names: list[str] | None = None
        folders = sorted({file.split("/", 1)[0] for file in self._names if "/" in file})
        if folders:
            number = {folder: i for i, folder in enumerate(folders)}
            classes = [number.get(file.split("/", 1)[0], -1) for file in self._names]
            self.labels, self.label_names = np.array(classes, dtype=np.int64)[self._where[:, 0]], folders
        self._ids = [f"{self._names[file]}:{row}:{column}" for file, row, column, _, _ in self._where.tolist()]
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, row: int) -> Shaped[np.ndarray, "c h w"] | Image.Image:
        """The tile at a row.

        Raises:
            UnreadableItem: the file is cut short or gone, or the tile has no valid pixel.
            IndexError: there is no such row.
        """
        values, valid = self._read(check_row(row, len(self)))
        if not valid.all():
            if not valid.any():
                raise UnreadableItem(row, self._ids[row], "it has no valid pixel")
            _fill(values, valid)
        return values if self.kind == "tiles" else Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0)))

    def valid(self, row: int) -> NDArray[np.bool_]:
        """Where all bands of a tile are valid: bool [h, w]. Raises as indexing does."""
        return np.asarray(self._read(check_row(row, len(self)))[1].all(axis=0))

    @property
    def ids(self) -> Sequence[str]:
        """``<file>:<row>:<column>`` of each tile."""
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the files' names and content (see ``fingerprint.py``), the tiles and the bands."""
        if self._fingerprint is None:
            tree = digest_tree(self._root, self._names)
            tiles = digest_json(self._where.tolist())
            told = {"reader": "rasters", "tree": tree, "tiles": tiles, "bands": self.bands, "kind": self.kind}
            self._fingerprint = digest_json(told)
        return self._fingerprint

    def footprints(self) -> pa.Table:
        """Where each tile lies: row, id, file, crs (WKT or null) and its corners x0, y0 ... x3, y3 in that system."""
        corners = []
        for file, row, column, height, width in self._where.tolist():
            corners.append(np.array(self.files[file].bounds(row, column, height, width)).ravel())
        columns: dict[str, Any] = {
            "row": np.arange(len(self), dtype=np.int64),
            "id": self._ids,
            "file": [self._names[i] for i in self._where[:, 0].tolist()],
            "crs": pa.array([self.files[i].crs for i in self._where[:, 0].tolist()], pa.string()),
        }
        for i, column in enumerate(np.array(corners).reshape(len(self), 8).T):
            columns[f"{'xy'[i % 2]}{i // 2}"] = column
        return pa.table(columns)

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, options."""
        return {
            "reader": "rasters", "path": str(self._source), "table": self._table, "bands": self.bands,
            "dtype": str(self.dtype), "n_files": len(self.files), **self._asked,
        }  # fmt: skip

    def _check_files(self) -> None:
        if not self.bands or len(set(self.bands)) < len(self.bands) or min(self.bands) < 1:
            raise ConfigError("pool.bands", f"is {self.bands}", "give different band numbers, counted from 1")
        first = self.files[0]
        for file in self.files:
            if file.count < max(self.bands):
                raise DataError(
                    f"{file.path} has {file.count} band(s), and band {max(self.bands)} is asked for "
                    f"({first.path.name} has {first.count}); remove the file or set pool.bands"
                )
            if file.dtype != first.dtype:
                raise DataError(
                    f"{file.path} holds {file.dtype}, and {first.path.name} {first.dtype}; write them alike"
                )

    def _kind(self, items: str) -> Kind:
        fits = len(self.bands) == 3 and self.dtype == np.uint8
        if items not in ("auto", "images", "tiles"):
            raise ConfigError("pool.items", f"is {items!r}", "choose auto, images or tiles")
        if items == "images" and not fits:
            problem = f"is images, but {len(self.bands)} band(s) of {self.dtype} are read"
            raise ConfigError("pool.items", problem, "use tiles, or three bands of uint8")
        return "images" if fits and items != "tiles" else "tiles"

    def _windows(self, tile: int | None, stride: int | None, edges: Edges, split: str | None) -> NDArray[np.int64]:
        """[n, 5]: file, row, column, height, width of each tile."""
        if self._table is not None:
            return read_tile_table(resolve_data_path(self._table, "pool.table"), self._names, self.files, split)
        found = []
        for i, file in enumerate(self.files):
            if tile is None:
                found.append((i, 0, 0, file.height, file.width))
                if (file.height, file.width) != (self.files[0].height, self.files[0].width):
                    problem = f"is null, but {file.path.name} differs in size from {self.files[0].path.name}"
                    raise ConfigError("pool.tile", problem, "give the side of a tile")
                continue
            rows = starts(file.height, tile, stride or tile, edges)
            columns = starts(file.width, tile, stride or tile, edges)
            found += [(i, row, column, tile, tile) for row in rows for column in columns]
        if not found:
            largest = max(self.files, key=lambda file: min(file.height, file.width))
            size = f"{largest.width} x {largest.height}"
            raise ConfigError("pool.tile", f"{tile} px is larger than the largest raster ({size})", "lower it")
        return np.array(found, dtype=np.int64)

    def _whole_enough(self, max_missing: float) -> NDArray[np.int64]:
        may_lack = np.array([file.may_lack for file in self.files])[self._where[:, 0]]
        if max_missing == 1 or not may_lack.any():
            return self._where
        kept = np.ones(len(self._where), dtype=bool)
        with progress(int(may_lack.sum()), "Missing pixels", "tiles") as bar:
            for i in np.flatnonzero(may_lack).tolist():
                try:
                    kept[i] = (~self._read(i)[1].all(axis=0)).mean() <= max_missing
                except UnreadableItem:
                    kept[i] = True  # to be told, or skipped, by who reads it (on_error)
                bar.update()
        if not kept.any():
            problem = f"is {max_missing}, and all {len(kept)} tiles lack more of their pixels"
            raise ConfigError("pool.max_missing", problem, "raise it, or take smaller tiles")
        return self._where[kept]

    def _read(self, row: int) -> tuple[Shaped[np.ndarray, "c h w"], NDArray[np.bool_]]:
        file, top, left, height, width = self._where[row].tolist()
        try:
            return self._open.read(self.files[file].path, self.bands, top, left, height, width)
        except rasterio_module().errors.RasterioError as error:
            why = " ".join(str(error.__cause__ or error).split())
            raise UnreadableItem(row, f"{self._names[file]}:{top}:{left}", why) from error


def _fill(values: Shaped[np.ndarray, "c h w"], valid: NDArray[np.bool_]) -> None:
    """Give missing pixels the mean of their band's valid ones; of all bands where a band has none. In place."""
    everywhere = values[valid].mean(dtype=np.float64)
    for band, good in zip(values, valid, strict=True):
        mean = band[good].mean(dtype=np.float64) if good.any() else everywhere
        band[~good] = np.rint(mean) if values.dtype.kind in "iu" else mean


def _raster_names(root: Path, extensions: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder (or the file's own) and the rasters in it: relative POSIX paths, sorted."""
    if root.is_file():
        return root.parent, [root.name]
    endings = tuple(ending.lower() for ending in extensions)
    files = [path for path in root.rglob("*") if path.name.lower().endswith(endings) and path.is_file()]
    names = sorted(path.relative_to(root).as_posix() for path in files if not path.name.startswith("."))
    if not names:
        raise ConfigError("pool.path", f"{root} holds no file ending in {list(endings)}", "give another folder")
    return root, names
