"""Statistics of each band of a pool of tiles: what its values are normalized by. No band borrows another's."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from strata.curation.artifact import write_json
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of, valid_of
from strata.curation.progress import progress

SAMPLED = 64  # pixels per tile and band that the percentiles are taken over


@dataclass(frozen=True)
class BandStatistics:
    """One value per band, in the unit of the data.

    Attributes:
        mean: over valid pixels.
        std: population standard deviation over valid pixels.
        minimum: over valid pixels.
        maximum: over valid pixels.
        low: percentile 0.1 of a sample of 64 pixels of each tile.
        high: percentile 99.9 of the same.
        n_pixels: valid pixels per band.
        n_tiles: that were read.
    """

    mean: list[float]
    std: list[float]
    minimum: list[float]
    maximum: list[float]
    low: list[float]
    high: list[float]
    n_pixels: list[int]
    n_tiles: int

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.mean)

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_json(Path(path), asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> "BandStatistics":
        """Read what ``save`` wrote.

        Raises:
            DataError: it cannot be read, or is something else.
        """
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no band statistics ({error}); compute them again") from error


def band_statistics(pool: Pool, rows: Int[np.ndarray, " m"] | None = None, *, random_state: int = 0) -> BandStatistics:
    """Read tiles of a pool once and sum up each band over its valid pixels.

    Sums are float64 about the first tile's mean, so that large values with a small spread keep their digits. An RGB image
    counts as three bands.

    Args:
        pool: of tiles or images.
        rows: which tiles; default: all.
        random_state: of the pixels that the percentiles are taken over.

    Raises:
        ConfigError: the pool holds neither tiles nor images, or no rows are given.
        DataError: tiles with different numbers of bands, or a band without a valid pixel.
    """
    if kind_of(pool) not in ("tiles", "images"):
        raise ConfigError("pool", f"{pool.name!r} holds {kind_of(pool)}", "give a pool of tiles or images")
    chosen = np.arange(len(pool)) if rows is None else np.asarray(rows)
    if not len(chosen):
        raise ConfigError("pool", f"no tile of {pool.name!r} is chosen", "give at least one row")
    totals: _Totals | None = None
    rng = np.random.default_rng(random_state)
    with progress(len(chosen), "Bands", "tiles") as bar:
        for row in chosen.tolist():
            pixels, valid = _pixels(pool, row)
            totals = totals or _Totals(pixels, valid)
            if len(pixels) != totals.n_bands:
                found = f"{len(pixels)} bands and not {totals.n_bands}"
                raise DataError(f"tile {pool.ids[row]!r} of {pool.name!r} has {found}; give tiles of as many bands")
            totals.add(pixels, valid, rng)
            bar.update()
    assert totals is not None
    return totals.result(pool.name)


def _pixels(pool: Pool, row: int) -> tuple[Float[np.ndarray, "c p"], Any]:
    """Values and validity of a tile, flattened to [bands, pixels]."""
    item = pool[row]
    bands = item if isinstance(item, np.ndarray) else np.asarray(item).transpose(2, 0, 1)
    known = valid_of(pool, row)
    valid = np.ones(bands.shape[1:], dtype=bool) if known is None else known
    return bands.reshape(len(bands), -1).astype(np.float64), valid.ravel()


class _Totals:
    def __init__(self, pixels: Float[np.ndarray, "c p"], valid: Any) -> None:
        self.n_bands = len(pixels)
        self.shift = pixels[:, valid].mean(axis=1, keepdims=True) if valid.any() else np.zeros((self.n_bands, 1))
        self.count, self.tiles = 0, 0
        self.sum, self.squares = np.zeros(self.n_bands), np.zeros(self.n_bands)
        self.least, self.most = np.full(self.n_bands, np.inf), np.full(self.n_bands, -np.inf)
        self.sample: list[Float[np.ndarray, "c s"]] = []

    def add(self, pixels: Float[np.ndarray, "c p"], valid: Any, rng: np.random.Generator) -> None:
        self.tiles += 1
        kept = pixels[:, valid]
        if not kept.shape[1]:
            return
        centered = kept - self.shift
        self.count += kept.shape[1]
        self.sum += centered.sum(axis=1)
        self.squares += np.square(centered).sum(axis=1)
        self.least = np.minimum(self.least, kept.min(axis=1))
        self.most = np.maximum(self.most, kept.max(axis=1))
        self.sample.append(kept[:, rng.integers(kept.shape[1], size=SAMPLED)])

    def result(self, name: str) -> BandStatistics:
        if not self.count:
            raise DataError(f"no tile of {name!r} has a valid pixel; check its nodata value")
        mean = self.sum / self.count
        low, high = np.percentile(np.concatenate(self.sample, axis=1), [0.1, 99.9], axis=1)
        return BandStatistics(
            (mean + self.shift[:, 0]).tolist(),
            np.sqrt(np.maximum(self.squares / self.count - mean**2, 0)).tolist(),
            self.least.tolist(),
            self.most.tolist(),
            low.tolist(),
            high.tolist(),
            [self.count] * self.n_bands,
            self.tiles,
        )
