"""Tiles as networks read them: known statistics come out as 0 and 1, and what does not fit is said."""

import numpy as np
import pytest
import torch

from strata.curation.errors import DataError
from strata.curation.pools.band_scale import BandScale, TileTransform
from strata.curation.pools.band_statistics import BandStatistics


def statistics(mean, std, low, high):
    n = len(mean)
    return BandStatistics(list(mean), list(std), list(low), list(high), list(low), list(high), [100] * n, 1)


def test_a_band_goes_from_its_own_low_to_its_own_high():
    scale = BandScale((100.0, -1.0), (300.0, 1.0))
    tile = np.array([[[50, 100], [200, 300]], [[-1, 0], [1, 9]]], np.float32)
    np.testing.assert_array_equal(scale.shares(tile), [[[0, 0], [0.5, 1]], [[0, 0.5], [1, 1]]])
    np.testing.assert_array_equal(scale.square(tile, 2), [[[0, 0], [128, 255]], [[0, 128], [255, 255]]])
    mean, std = scale.moments(statistics([150, 0.5], [20, 0.5], [100, -1], [300, 1]))
    assert mean == pytest.approx((0.25, 0.75)) and std == pytest.approx((0.1, 0.25))


def test_large_whole_numbers_keep_their_digits():
    """uint16 reflectances around 60,000 with a spread of 50: float16 or uint8 of the raw values would lose them."""
    rng = np.random.default_rng(0)
    tile = (60_000 + rng.integers(0, 51, (1, 64, 64))).astype(np.uint16)
    scale = BandScale((60_000.0,), (60_050.0,))
    np.testing.assert_allclose(scale.shares(tile), (tile - 60_000.0) / 50, atol=1e-7)
    assert len(np.unique(scale.square(tile, 64))) == 51


def test_a_band_that_is_the_same_everywhere_is_zero():
    scale = BandScale((7.0,), (7.0,))
    assert scale.shares(np.full((1, 2, 2), 7, np.uint16)).max() == 0
    assert scale.moments(statistics([7], [0], [7], [7])) == ((0.0,), (1.0,))


@pytest.mark.parametrize(("fit", "shape"), [("cover", (2, 8, 8)), ("contain", (2, 4, 8))])
def test_tiles_that_are_not_square(fit, shape):
    tile = np.zeros((2, 10, 20))
    tile[0, :, 5:15] = 1.0  # what "cover" keeps
    tile[1, :, 10:] = 1.0
    small = BandScale((0.0, 0.0), (1.0, 1.0)).square(tile, 8, fit)
    assert small.shape == shape and small.dtype == np.uint8
    if fit == "cover":
        assert (small[0] == 255).all()
    assert (small[1, :, : shape[2] // 2 - 1] == 0).all() and (small[1, :, shape[2] // 2 + 1 :] == 255).all()


def test_another_number_of_bands_is_refused():
    scale = BandScale((0.0, 0.0), (1.0, 1.0))
    with pytest.raises(DataError, match="a tile has 3 bands, and 2 are read"):
        scale.shares(np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="a tile has 0 bands"):
        scale.shares(np.zeros((4, 4)))


def test_normalized_bands_have_mean_zero_and_deviation_one():
    rng = np.random.default_rng(0)
    tiles = np.array([10.0, 5e4, -0.5])[:, None, None] + np.array([1.0, 200.0, 0.01])[:, None, None] * rng.uniform(
        -1, 1, (50, 3, 16, 16)
    )
    known = tiles.transpose(1, 0, 2, 3).reshape(3, -1)
    found = statistics(known.mean(axis=1), known.std(axis=1), known.min(axis=1), known.max(axis=1))
    scale = BandScale.of(found)
    transform = TileTransform(scale, 16, *scale.moments(found))
    seen = torch.stack([transform(tile) for tile in tiles])
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(3), atol=5e-3, rtol=0)
    torch.testing.assert_close(seen.std(dim=(0, 2, 3)), torch.ones(3), atol=5e-3, rtol=0)
