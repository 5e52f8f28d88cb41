"""Levels chosen from the sizes of pool and subset."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.curation.errors import ConfigError
from strata.curation.hierarchical_kmeans import HierarchicalKMeans
from strata.curation.levels import auto_levels, resolve_levels

ALL = dict.fromkeys(("n_clusters", "n_splits", "n_resamples", "resample_size", "init"), "auto")


@pytest.mark.parametrize(
    ("n", "size", "paper"),
    [
        (743_000_000, 100_000_000, [10_000_000, 500_000, 50_000, 10_000]),  # arXiv:2405.15613, section 4.1: web images
        (18_000_000, 5_000_000, [500_000, 50_000, 10_000]),  # satellite
        (25_000, 5_000, [1000, 200, 50]),  # hierarchy=micro
    ],
)
def test_near_what_the_paper_and_micro_use(n, size, paper):
    levels = auto_levels(n, size)
    assert len(levels) == len(paper)
    for ours, theirs in zip(levels, paper):
        assert theirs / 1.3 < ours < theirs * 1.3


def test_the_rest_as_in_the_config_of_the_authors():
    found = resolve_levels(ALL, 743_000_000, 100_000_000)
    assert found["n_splits"] == [99, 1, 1, 1] and found["n_clusters"][0] == 100_000
    assert found["n_resamples"] == [0, 9, 9, 9] and found["resample_size"] == [1, 10, 5, 3]
    assert found["init"] == ["scalable"] * 4


@given(st.integers(1, 10**10), st.none() | st.integers(1, 10**9))
def test_every_pool_has_levels_that_can_be_fitted(n, size):
    levels = auto_levels(n, size)
    assert 1 <= levels[0] <= n and all(above < below for below, above in itertools.pairwise(levels))
    assert len(levels) == 1 or 10 <= levels[-1] <= 10_000
    assert len(levels) == 1 or size is None or levels[-1] <= max(10, 1.05 * size / 20)
    steps = [below / above for below, above in itertools.pairwise(levels)]
    assert all(1 < step < 30 for step in steps)
    HierarchicalKMeans(**resolve_levels(ALL, n, size)).check(n)


def test_what_is_given_stays():
    plain = {"n_clusters": [8, 4], "n_resamples": 3, "metric": "cosine", "dtype": "auto"}
    assert resolve_levels(plain, 100, 10) == plain
    found = resolve_levels(ALL | {"n_clusters": [60, 10]}, 1000, 100)
    assert found["n_clusters"] == [60, 10] and found["resample_size"] == [1, 3] and found["n_resamples"] == [0, 9]
    assert resolve_levels(ALL | {"n_resamples": 0}, 1000, 100)["n_resamples"] == 0


@pytest.mark.parametrize("wrong", [{"n_clusters": "many"}, {"n_clusters": []}, {"n_splits": 3}, {"n_clusters": [0]}])
def test_refused(wrong):
    with pytest.raises(ConfigError, match="hierarchy"):
        HierarchicalKMeans(**resolve_levels(ALL | wrong, 1000, 100)).check(1000)
    with pytest.raises(ConfigError):
        auto_levels(0, None)
