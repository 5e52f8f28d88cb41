"""Points of a known intrinsic dimension, and the exponent along their axis."""

import numpy as np
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Measured
from strata.curation.measures.exponent import AxisExponent
from strata.curation.pools.slab import SlabPool


def points(**options) -> np.ndarray:
    pool = SlabPool(**{"n": 40_000, "dim": 3, "ambient": 6} | options)
    return np.stack([pool[row] for row in range(len(pool))]).astype(np.float64)


def test_density_is_a_straight_line_along_the_first_axis_and_flat_along_the_others():
    found = points(floor=0.2)
    x = np.linspace(0, 1, 11)
    shares = np.diff(0.8 * x**2 + 0.2 * x)
    assert np.histogram(found[:, 0], x)[0] / len(found) == pytest.approx(shares, abs=0.006)
    assert np.histogram(found[:, 1], x)[0] / len(found) == pytest.approx(np.full(10, 0.1), abs=0.006)
    assert not found[:, 3:].any(), "no noise: the other axes are empty"
    assert np.linalg.matrix_rank(found - found.mean(0)) == 3


def test_seeds_and_fingerprint():
    assert SlabPool(10, 2).fingerprint == SlabPool(10, 2).fingerprint != SlabPool(10, 2, seed=1).fingerprint
    assert len(set(SlabPool(10, 2).ids)) == 10


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_exponent_of_points_drawn_by_a_power_of_the_density(power):
    data = points()
    rng = np.random.default_rng(0)
    p = 2 * 0.9 * data[:, 0] + 0.1
    chosen = rng.choice(len(data), 6000, replace=False, p=p ** (power - 1) / (p ** (power - 1)).sum())
    measured = Measured(data[chosen], np.zeros(len(data)), data, None, 0, 0)
    assert AxisExponent(groups=20)(measured).values["exponent"] == pytest.approx(power, abs=0.08)


def test_bad_input():
    with pytest.raises(ConfigError, match=r"^pool\.dim"):
        SlabPool(10, 5, ambient=4)
    with pytest.raises(ConfigError, match=r"^pool\.floor"):
        SlabPool(10, 2, floor=0.0)
    with pytest.raises(ConfigError, match=r"^measure\.axis"):
        AxisExponent(axis=-1)
    data = points(n=100)
    with pytest.raises(DataError, match="axes"):
        AxisExponent(axis=6)(Measured(data, np.zeros(100), data, None, 0, 0))
