"""Tiles as networks read them: each band over its own range in the pool, as 8 bits, square."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from strata.curation.errors import DataError
from strata.curation.pools.band_statistics import BandStatistics


@dataclass(frozen=True)
class BandScale:
    """The value that becomes 0 and the one that becomes 255, of each band.

    Percentiles 0.1 and 99.9 of the pool, so that a few bright or broken pixels do not flatten a band; what lies outside is
    clipped. A step is 1/255 of the range. A band that is the same everywhere becomes 0.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, statistics: BandStatistics) -> "BandScale":
        """The scale of a pool."""
        return cls(tuple(statistics.low), tuple(statistics.high))

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.low)

    def moments(self, statistics: BandStatistics) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each band on the scale from 0 to 1; 0 and 1 of a band that is the same everywhere."""
        width = np.array(self.high) - np.array(self.low)
        known = width > 0
        safe = np.where(known, width, 1.0)
        mean = np.where(known, (np.array(statistics.mean) - np.array(self.low)) / safe, 0.0)
        std = np.where(known, np.array(statistics.std) / safe, 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())

    def shares(self, tile: Shaped[np.ndarray, "c h w"]) -> Float[np.ndarray, "c h w"]:
        """A tile's values from 0 to 1, float32.

        Raises:
            DataError: it has another number of bands.
        """
        if tile.ndim != 3 or len(tile) != self.n_bands:
            found = len(tile) if tile.ndim == 3 else 0
            raise DataError(f"a tile has {found} bands, and {self.n_bands} are read; give tiles of as many bands")
        low, high = (np.array(ends, dtype=np.float64)[:, None, None] for ends in (self.low, self.high))
        width = high - low
        shares = np.clip((tile.astype(np.float64) - low) / np.where(width > 0, width, 1.0), 0, 1)
        return np.where(width > 0, shares, 0.0).astype(np.float32)

    def square(self, tile: Shaped[np.ndarray, "c h w"], size: int, fit: str = "cover") -> UInt8[np.ndarray, "c h w"]:
        """A tile brought to 8 bits and at most ``size`` x ``size`` pixels, bicubic with anti-aliasing.

        "cover": the center square of the shorter side, so that both sides are ``size``; "contain": all of it, the longer side
        is ``size``. Raises as ``shares``.
        """
        x = torch.from_numpy(self.shares(tile))
        if fit == "cover":
            side = min(x.shape[1:])
            top, left = ((length - side) // 2 for length in x.shape[1:])
            x, sides = x[:, top : top + side, left : left + side], (size, size)
        else:
            share = size / max(x.shape[1:])
            height, width = (max(1, round(length * share)) for length in x.shape[1:])
            sides = (height, width)
        if tuple(x.shape[1:]) != sides:
            x = interpolate(x[None], sides, mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)
        found: UInt8[np.ndarray, "c h w"] = (x * 255).round().to(torch.uint8).numpy()
        return found


@dataclass(frozen=True)
class TileTransform:
    """A tile as a trained network reads it: ``BandScale.square``, then each band less its mean over its deviation."""

    scale: BandScale
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, tile: Shaped[np.ndarray, "c h w"]) -> Float[Tensor, "c size size"]:
        """Raises a DataError for another number of bands."""
        x = torch.from_numpy(self.scale.square(tile, self.size)).float() / 255.0
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std
