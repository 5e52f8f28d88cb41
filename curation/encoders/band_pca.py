"""Tiles of any number of bands, made small and flattened, through PCA: a weak encoder that needs no weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from strata.curation.encoders.pca import Descriptor, PCAEncoder
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.band_statistics import BandStatistics, band_statistics
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind

LEVELS = 1023  # a band's range in steps
RANGE_FILE = "bands.json"


@dataclass(frozen=True)
class SmallTile(Descriptor):
    """A tile averaged to ``size`` x ``size`` pixels, each band from its own low..high to 0..1023."""

    size: int
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, tile: Shaped[np.ndarray, "c h w"]) -> Int[Tensor, "c size size"]:  # type: ignore[override]
        """Values of the small tile; what lies outside the range is clipped."""
        if len(tile) != len(self.low):
            raise DataError(f"a tile has {len(tile)} bands, and the encoder was fitted on {len(self.low)}")
        low, high = (np.array(ends, dtype=np.float64)[:, None, None] for ends in (self.low, self.high))
        shares = np.clip((tile.astype(np.float64) - low) / np.maximum(high - low, np.finfo(np.float64).tiny), 0, 1)
        small = interpolate(torch.from_numpy(shares)[None], (self.size, self.size), mode="area")[0]
        return (small * LEVELS).round().to(torch.int64)

    def describe(self) -> dict[str, Any]:
        """The transform; the ranges lie in ``bands.json``, as what was learned."""
        return {
            "size": [self.size, self.size],
            "interpolation": "area mean",
            "crop": None,
            "mean": None,
            "std": None,
            "range": "each band's percentiles 0.1 and 99.9",
        }


class BandPCA(PCAEncoder):
    """PCA of small multi-band tiles, each band scaled by its own percentiles in the pool.

    Args:
        size: side in pixels of the small tile.
        bands: number of bands of the pool's tiles.
        n_components: length of an embedding.
        whiten, fit_rows, random_state, normalize: see PCAEncoder; the percentiles are of the same rows.
    """

    name = "band_pca"
    reads: ClassVar[Kind] = "tiles"

    def __init__(
        self,
        bands: int,
        size: int = 8,
        n_components: int = 32,
        whiten: bool = False,
        fit_rows: int = 10000,
        random_state: int = 0,
        normalize: bool = False,
    ) -> None:
        for field, value in (("size", size), ("bands", bands)):
            if value < 1:
                raise ConfigError(f"encoder.{field}", f"is {value}", "use 1 or more")
        self.bands = bands
        self._transform = SmallTile(size, (0.0,) * bands, (1.0,) * bands)
        super().__init__(size * size * bands, LEVELS, n_components, whiten, fit_rows, random_state, normalize)

    @property
    def transform(self) -> SmallTile:
        """Tile -> integers in [0, 1023]."""
        return self._transform

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Learn the bands' ranges, then PCA, or read ``work_dir`` where that was done already. Raises as PCAEncoder."""
        file = Path(work_dir) / RANGE_FILE
        if not file.exists():
            ranges = band_statistics(pool, self.fitted_rows(pool))
            if ranges.n_bands != self.bands:
                raise ConfigError("encoder.bands", f"is {self.bands}, and tiles have {ranges.n_bands}", "set it so")
            file.parent.mkdir(parents=True, exist_ok=True)
            ranges.save(file)
        known = BandStatistics.load(file)
        self._transform = SmallTile(self._transform.size, tuple(known.low), tuple(known.high))
        super().fit(pool, work_dir)
