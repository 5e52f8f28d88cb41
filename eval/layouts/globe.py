"""Tiles of a map of the world with heights: a small real set for dense protocols (``globe_height`` of the data sheet)."""

import csv
import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.fingerprint import digest_json, digest_tree
from strata.curation.pools.items import check_row
from strata.eval.layouts.files import choose, need, open_root

LAYOUT = "ROOT/{rgb.tif, height.tif, tiles.csv}"
SEA = -32768  # height.tif: nodata


class GlobePool:
    """Windows of 64 x 64 px (about 640 km) with the height of the land in metres, or its band, as the map of each.

    Args:
        root: folder of the set.
        split: "train", "test_id" (held-out blocks of the same continents) or "test_ood" (other continents).
        bands: heights in metres that part the classes of a segmentation: sea, below the first, ..., above the last. None:
            the maps are heights (float32, NaN at sea).
        limit: take at most so many tiles, evenly spaced in the list.
        block: also say of each tile in which block of so many degrees its middle lies (column "block"): tiles overlap, so
            what is held out of them has to be whole blocks.
        name: in tables.

    Raises:
        ConfigError: it is not there in this layout.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "test_id", "test_ood"],
        bands: Sequence[float] | None = None,
        limit: int | None = None,
        block: int | None = None,
        name: str | None = None,
    ) -> None:
        choose(split, ("train", "test_id", "test_ood"))
        self.root, self.split = open_root(root, LAYOUT), split
        for file in ("rgb.tif", "height.tif", "tiles.csv"):
            need(self.root / file, LAYOUT)
        self.bands = None if bands is None else [float(band) for band in bands]
        if self.bands is not None and (not self.bands or self.bands != sorted(set(self.bands))):
            raise ConfigError("pool.bands", f"{self.bands}", "give rising heights, e.g. [200, 500, 1500]")
        tiles = self._tiles()
        if limit is not None:
            tiles = [tiles[i] for i in np.linspace(0, len(tiles) - 1, min(limit, len(tiles))).round().astype(int)]
        self.tiles = tiles
        if block is not None and not 1 <= block <= 180:
            raise ConfigError("pool.block", f"{block} degrees", "give 1 to 180, or null")
        self.block = block
        self.extra = {} if block is None else {"block": self._blocks(block)}
        self.name = name or f"globe-{split}"
        self.labels = None
        self.label_names = None if self.bands is None else _band_names(self.bands)
        self.task_info: dict[str, Any] = {} if self.bands is not None else {"min": None, "max": None, "unit": "m"}

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, row: int) -> Image.Image:
        """The picture of a tile."""
        y, x, size = self.tiles[check_row(row, len(self))]
        return Image.fromarray(self._rgb[y : y + size, x : x + size])

    def target(self, row: int) -> np.ndarray:
        """Heights in metres (NaN at sea), or class ids of the bands."""
        y, x, size = self.tiles[check_row(row, len(self))]
        height = self._height[y : y + size, x : x + size]
        sea = height == SEA
        if self.bands is None:
            return np.where(sea, np.float32(np.nan), height.astype(np.float32))
        found = np.digitize(height, self.bands).astype(np.uint8) + 1
        return np.where(sea, 0, found).astype(np.uint8)

    @property
    def ids(self) -> list[str]:
        """Place of the upper left corner, in pixels of the map."""
        return [f"{self.split}/{y}-{x}" for y, x, _ in self.tiles]

    @cached_property
    def fingerprint(self) -> str:
        """Of the files, the tiles taken, and how they are read."""
        tree = digest_tree(self.root, ["height.tif", "rgb.tif", "tiles.csv"])
        told = {"reader": "globe", "tree": tree, "tiles": self.tiles, "bands": self.bands}
        return digest_json(told | ({} if self.block is None else {"block": self.block}))

    def describe(self) -> dict[str, Any]:
        """Split and bands."""
        return {"reader": "globe", "root": str(self.root), "split": self.split, "bands": self.bands}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_rgb", "_height")}

    @cached_property
    def _rgb(self) -> np.ndarray:
        return _read(self.root / "rgb.tif").astype(np.uint8)

    @cached_property
    def _height(self) -> np.ndarray:
        return _read(self.root / "height.tif")

    def _blocks(self, degrees: int) -> list[str]:
        with Image.open(self.root / "height.tif") as image:
            side = degrees * image.width / 360  # pixels
        return [f"{int((y + size / 2) // side)}-{int((x + size / 2) // side)}" for y, x, size in self.tiles]

    def _tiles(self) -> list[tuple[int, int, int]]:
        with open(self.root / "tiles.csv", newline="") as stream:
            lines = [line for line in csv.DictReader(stream) if line.get("split") == self.split]
        if not lines:
            raise ConfigError(
                "pool.split", f"tiles.csv of {self.root} lists no tile of {self.split!r}", f"the layout is {LAYOUT}"
            )
        return [(int(line["row"]), int(line["col"]), int(line["size"])) for line in lines]


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _band_names(bands: Sequence[float]) -> list[str]:
    between = [f"{low:g}-{high:g} m" for low, high in itertools.pairwise(bands)]
    return ["sea", f"below {bands[0]:g} m", *between, f"above {bands[-1]:g} m"]
