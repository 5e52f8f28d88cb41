"""What a recipe becomes for a pool: RGB images as they are, or tiles, each band by its own statistics in that pool."""

import dataclasses

from strata.curation.errors import ConfigError
from strata.curation.pools.band_scale import BandScale
from strata.curation.pools.band_statistics import BandStatistics
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of
from strata.ssl.image.config import ImageSSLConfig


def needs_statistics(config: ImageSSLConfig, pool: Pool) -> bool:
    """Whether ``fit_to_bands`` wants the pool's statistics: of tiles always, of images where the recipe has no mean."""
    return kind_of(pool) == "tiles" or not config.mean


def check_bands(config: ImageSSLConfig, pool: Pool) -> None:
    """Raise a ConfigError where recipe and pool do not go together, as far as that is known without reading the pool."""
    kind = kind_of(pool)
    if kind not in ("images", "tiles"):
        raise ConfigError("pool", f"{pool.name!r} holds {kind}, and the recipe trains on images", "use images or tiles")
    if kind == "images" and config.in_chans != 3:
        raise ConfigError("ssl.in_chans", f"is {config.in_chans}, and {pool.name!r} holds RGB images", "set it to 3")
    known = getattr(pool, "bands", None)
    if kind == "tiles" and known is not None:
        _check_count(config, len(known), pool.name)
    if kind == "tiles" and config.in_chans == 3 and not config.by_band:
        problem = f"is false, and {pool.name!r} holds tiles, whose three bands need not be red, green and blue"
        raise ConfigError("ssl.by_band", problem, "set it to true")


def fit_to_bands(
    config: ImageSSLConfig, pool: Pool, statistics: BandStatistics | None
) -> tuple[ImageSSLConfig, BandScale | None]:
    """The recipe with mean and deviation of each band, and how tiles become 8 bits (None: the pool holds images).

    Raises:
        ConfigError: the numbers of bands differ, or statistics are needed and not given.
    """
    check_bands(config, pool)
    if statistics is None:
        if needs_statistics(config, pool):
            problem = f"are needed of {pool.name!r}"
            raise ConfigError("bands", problem, "give band_statistics(pool), or ssl.mean and ssl.std of images")
        return config, None
    _check_count(config, statistics.n_bands, pool.name)
    tiles = kind_of(pool) == "tiles"
    scale = BandScale.of(statistics) if tiles else BandScale((0.0,) * 3, (255.0,) * 3)
    if not config.mean:
        mean, std = scale.moments(statistics)
        config = dataclasses.replace(config, mean=mean, std=std)
    return config, scale if tiles else None


def _check_count(config: ImageSSLConfig, bands: int, name: str) -> None:
    if bands != config.in_chans:
        raise ConfigError("ssl.in_chans", f"is {config.in_chans}, and {name!r} has {bands} bands", f"set it to {bands}")
