"""Aerial or satellite images with lidar canopy heights: rasters in pairs, and the published test set of the canopy height model.

Of the paper's four test sets (Table 7) only "aerial NEON" is published as image and height tiles; the satellite images of
the others (NEON, California Brande, Sao Paulo) are commercial. Whoever has them reads them as pairs of rasters.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_json, digest_tree
from strata.curation.pools.items import check_row
from strata.curation.pools.raster_files import OpenRasters, RasterFile, rasterio_module
from strata.curation.pools.windows import starts
from strata.eval.layouts.files import need, open_root

PAIRS = (
    "ROOT/NAME<images> and ROOT/NAME<heights> for each place, at any depth, e.g. JERC_049_rgb.tif and JERC_049_chm.tif"
)
NEON_AERIAL = "ROOT/{neon_test_data.csv, images/...}: data.zip of facebookresearch/HighResCanopyHeight"
_NEON_SIZE, _NEON_SIDE, _NEON_ITEMS = 256, 6, 30  # pixels of a window; windows a row of an image; items for each image


class Window(NamedTuple):
    """A square of an image and of its heights: files below the root, first row, first column, side, in pixels of each."""

    image: str
    heights: str
    at_image: tuple[int, int, int, int]  # row, column, height, width
    at_heights: tuple[int, int, int, int]


class HeightPairs:
    """Windows of images, with the heights of the same ground at their own resolution as the map of each.

    An item is an RGB image (three bands of uint8), or an array [bands, h, w] (kind "tiles"). A map is float32 in metres;
    heights below 0 are 0, as in facebookresearch/HighResCanopyHeight, and pixels without a value NaN.

    Args:
        name: in tables.
        root: that the files are below.
        windows: the items.
        extra: more columns for ``items.parquet``.
        about: what the manifest should say.
    """

    labels = None
    label_names = None

    def __init__(
        self,
        name: str,
        root: Path,
        windows: Sequence[Window],
        *,
        extra: Mapping[str, Sequence[Any]] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.root, self.windows = name, root, list(windows)
        self.extra, self._about = dict(extra or {}), dict(about or {})
        self.task_info = {"min": 0.0, "max": 100.0, "unit": "m"}  # no tree is taller; the range of bins
        headers = {file: RasterFile.read(root / file) for file in dict.fromkeys(w.image for w in self.windows)}
        first = next(iter(headers.values()))
        for header in headers.values():
            if (header.count, header.dtype) != (first.count, first.dtype):
                found = (
                    f"{header.count} band(s) of {header.dtype}, and {first.path.name} {first.count} of {first.dtype}"
                )
                raise DataError(f"{header.path} has {found}; write them alike")
        self.bands = list(range(1, first.count + 1))
        self.kind: Kind = "images" if (first.count, first.dtype) == (3, "uint8") else "tiles"
        self._open = OpenRasters()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> Image.Image | Shaped[np.ndarray, "c h w"]:
        """The image at a row. Raises UnreadableItem."""
        window = self.windows[check_row(row, len(self))]
        values, _ = self._read(row, window.image, self.bands, window.at_image)
        return values if self.kind == "tiles" else Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0)))

    def target(self, row: int) -> Float[np.ndarray, "h w"]:
        """Heights in metres. Raises UnreadableItem."""
        window = self.windows[check_row(row, len(self))]
        values, valid = self._read(row, window.heights, [1], window.at_heights)
        return np.where(valid[0], np.maximum(values[0], 0), np.nan).astype(np.float32)

    @property
    def ids(self) -> list[str]:
        """``<image>:<row>:<column>``."""
        return [f"{window.image}:{window.at_image[0]}:{window.at_image[1]}" for window in self.windows]

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' content and the windows."""
        files = sorted({file for window in self.windows for file in (window.image, window.heights)})
        return digest_json({"reader": "height_pairs", "tree": digest_tree(self.root, files), "windows": self.windows})

    def describe(self) -> dict[str, Any]:
        """The layout and its root."""
        return {"reader": "height_pairs", "root": str(self.root), **self._about}

    def _read(self, row: int, file: str, bands: Sequence[int], at: tuple[int, int, int, int]) -> Any:
        try:
            return self._open.read(self.root / file, bands, *at)
        except rasterio_module().errors.RasterioError as error:
            why = " ".join(str(error.__cause__ or error).split())
            raise UnreadableItem(row, file, why) from error


def height_pairs(
    root: str,
    images: str = "_rgb.tif",
    heights: str = "_chm.tif",
    tile: int | None = None,
    name: str | None = None,
) -> HeightPairs:
    """Any folder of image rasters with a raster of heights each, which may be coarser by a whole factor.

    Args:
        root: of the set.
        images: how the name of an image ends.
        heights: how that of its heights ends, after the same beginning.
        tile: side of a window in pixels of the image; None: each image is one item. What is left at the right and below is
            left out.
        name: in tables; default: of the folder.

    Raises:
        ConfigError: no pairs, or a tile that does not fit. DataError: a pair that does not cover the same ground.
    """
    folder = open_root(root, PAIRS)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"*{images}") if path.is_file())
    if not found:
        raise ConfigError("pool.images", f"{folder} holds no file ending in {images!r}", f"the layout is {PAIRS}")
    windows = []
    for image in found:
        partner = image.removesuffix(images) + heights
        need(folder / partner, PAIRS)
        windows += _windows(RasterFile.read(folder / image), RasterFile.read(folder / partner), image, partner, tile)
    if not windows:
        raise ConfigError("pool.tile", f"{tile} px is larger than every image of {folder}", "lower it")
    about = {"layout": "height_pairs", "images": images, "heights": heights, "tile": tile}
    return HeightPairs(name or folder.name, folder, windows, about=about)


def neon_aerial(root: str) -> HeightPairs:
    """The published test set "aerial NEON": 256 px windows of airborne images and canopy heights of unseen sites.

    Windows, and which of them count, are those of facebookresearch/HighResCanopyHeight#inference.py: 36 to an image in the
    order of the list, of which the first 30 times the number of images are read.

    Raises:
        ConfigError: it is not there in this layout, or a line of the list does not fit its image.
    """
    folder = open_root(root, NEON_AERIAL)
    file = need(folder / "neon_test_data.csv", NEON_AERIAL)
    with open(file, newline="") as stream:
        lines = list(csv.DictReader(stream))
    wanted = ("neon", "chm", "bord_x", "bord_y", "imsize", "lat", "lon")
    lacking = [name for name in wanted if not lines or lines[0].get(name) is None]
    if lacking:
        raise ConfigError("pool.root", f"{file} has no column {lacking[0]!r}", f"the layout is {NEON_AERIAL}")
    windows, places = [], []
    for item in range(_NEON_ITEMS * len(lines)):
        number, across, down = item // _NEON_SIDE**2, item % _NEON_SIDE**2 // _NEON_SIDE, item % _NEON_SIDE
        line = lines[number]
        need(folder / "images" / line["neon"], NEON_AERIAL)
        need(folder / "images" / line["chm"], NEON_AERIAL)
        column, row = (_start(line, f"bord_{axis}", at, file, number) for axis, at in (("x", across), ("y", down)))
        at = (row, column, _NEON_SIZE, _NEON_SIZE)
        windows.append(Window(f"images/{line['neon']}", f"images/{line['chm']}", at, at))
        places.append((float(line["lat"] or "nan"), float(line["lon"] or "nan")))
    extra = {"lat": [lat for lat, _ in places], "lon": [lon for _, lon in places]}
    return HeightPairs("neon_aerial", folder, windows, extra=extra, about={"layout": "neon_aerial"})


def _start(line: Mapping[str, str], border: str, number: int, file: Path, at: int) -> int:
    """First pixel of the ``number``-th window along an axis."""
    try:
        edge, side = int(float(line[border])), int(float(line["imsize"]))
        return range(edge, side - edge - _NEON_SIZE, _NEON_SIZE)[number]
    except (ValueError, IndexError) as error:
        problem = f"line {at + 2} of {file} ({border} {line[border]!r}, imsize {line['imsize']!r}) has not 6 windows of 256 px"
        raise ConfigError("pool.root", problem, f"the layout is {NEON_AERIAL}") from error


def _windows(image: RasterFile, heights: RasterFile, name: str, partner: str, tile: int | None) -> list[Window]:
    ratios = (image.height / heights.height, image.width / heights.width)
    ratio = round(ratios[0])
    if ratio < 1 or ratios != (ratio, ratio):
        sizes = f"{image.width} x {image.height} px, and {heights.path.name} {heights.width} x {heights.height}"
        raise DataError(f"{image.path} has {sizes}, no whole factor of it; cut them to the same ground")
    if tile is None:
        return [Window(name, partner, (0, 0, image.height, image.width), (0, 0, heights.height, heights.width))]
    if tile < 1 or tile % ratio:
        raise ConfigError("pool.tile", f"{tile} px, and {ratio} of them are one of {partner}", "give a multiple")
    coarse = tile // ratio
    return [
        Window(name, partner, (row, column, tile, tile), (row // ratio, column // ratio, coarse, coarse))
        for row in starts(image.height, tile, tile, "drop")
        for column in starts(image.width, tile, tile, "drop")
    ]
