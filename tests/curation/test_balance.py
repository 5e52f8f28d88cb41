import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.neighbors import KernelDensity

from strata.curation.balance import balance
from strata.curation.errors import ConfigError, DataError
from strata.curation.uniformity import density_2d, kl_to_uniform, kl_to_uniform_2d


def test_values_by_hand():
    b = balance([0, 0, 1, 2, -1], 4, pool_labels=[0, 0, 0, 1, 1, 2, 3, -1])
    assert (b.n, b.n_labelled, b.n_classes) == (5, 4, 4)
    assert b.entropy == pytest.approx(1.5 * math.log(2)) and b.normalized_entropy == pytest.approx(0.75)
    assert b.effective_classes == pytest.approx(2**1.5) and b.coverage == 0.75 and b.largest_share == 0.5
    assert b.tail_items == 1 and b.tail_share == 0.25  # classes 2 and 3 are the rarest half of the pool


@given(st.lists(st.integers(-1, 6), max_size=60))
def test_entropy_is_scipys(labels):
    b = balance(labels, 7)
    counts = np.bincount([x for x in labels if x >= 0], minlength=7)
    expected = entropy(counts) if counts.any() else 0.0
    assert b.entropy == pytest.approx(expected) and 0 <= b.normalized_entropy <= 1 + 1e-12
    assert b.tail_items is None and b.tail_share is None


def test_ends():
    even = balance(np.arange(100) % 10, 10)
    assert even.normalized_entropy == pytest.approx(1) and even.effective_classes == pytest.approx(10)
    one = balance([3, 3], 10)
    assert one.entropy == 0 and one.effective_classes == 1 and one.largest_share == 1 and one.coverage == 0.1
    nothing = balance([], 10)
    assert nothing.n == 0 and nothing.effective_classes == 0 and nothing.largest_share == 0


def test_bad_labels():
    for labels in ([10], [-2]):
        with pytest.raises(DataError):
            balance(labels, 10)
    with pytest.raises(ConfigError):
        balance([], 0)


def test_density_is_scikit_learns():
    cloud = np.random.default_rng(0).normal(0, 1, (50, 2))
    axis = np.arange(30) * 0.2 - 3 + 0.1
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    expected = np.exp(KernelDensity(bandwidth=0.5).fit(cloud).score_samples(grid)).reshape(30, 30)
    np.testing.assert_allclose(density_2d(cloud, step=0.2), expected / expected.sum(), rtol=1e-10)


def test_kl_of_the_papers_data_and_of_uniform_points():
    """Fig. 3: the 9,000 points .942 (notebook) to .951 (figure); 300 uniform points .040 +- .007."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(c, 0.5, (n, 2)) for c, n in (((-1, -1), 7000), ((1, -1), 1000), ((0, 1), 500))]
    data = np.concatenate([*parts, rng.uniform(-3, 3, (500, 2))])
    assert kl_to_uniform_2d(data) == pytest.approx(0.945, abs=0.03)
    uniform = np.mean([kl_to_uniform_2d(rng.uniform(-3, 3, (300, 2))) for _ in range(10)])
    assert uniform == pytest.approx(0.040, abs=0.01)


def test_bad_clouds():
    for cloud in (np.zeros((3, 3)), np.zeros((0, 2)), [[np.nan, 0]]):
        with pytest.raises(DataError):
            kl_to_uniform_2d(cloud)


def test_kl_to_uniform():
    assert kl_to_uniform([3, 3, 3]) == 0
    assert kl_to_uniform([5, 0, 0, 0]) == pytest.approx(math.log(4))
    assert kl_to_uniform([3, 1]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    for bad in ([], [0, 0], [-1, 2], [np.nan], [[1]]):
        with pytest.raises(DataError):
            kl_to_uniform(bad)
