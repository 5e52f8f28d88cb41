import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.errors import ConfigError
from strata.curation.kmeans import accelerated as module
from strata.curation.kmeans import candidates
from strata.curation.kmeans.flat import kmeans


def mixture(n=6000, d=24, groups=300, seed=0):
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((groups, d))
    return (means[rng.zipf(1.5, n) % groups] + rng.standard_normal((n, d))).astype(np.float32)


def nearest(X, C):
    return np.square(X[:, None].astype(float) - C.astype(float)).sum(-1).argmin(1)


@pytest.fixture(params=["all centroids", "near lists"])
def lists(request, monkeypatch):
    monkeypatch.setattr(module, "_LISTS", 64 if request.param == "near lists" else 10**9)
    monkeypatch.setattr(candidates, "_GROUP", 20)
    monkeypatch.setattr(candidates, "_NEAR", 40)
    monkeypatch.setattr(module, "_SAMPLE", 10)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_as_good_as_lloyd_and_labels_are_exact(lists, metric):
    X = mixture()
    quick = kmeans(X, 150, algorithm="accelerated", init="auto", metric=metric)
    exact = kmeans(X, 150, n_iter=20, metric=metric)
    assert quick.inertia < (1.02 if module._LISTS > 150 else 1.05) * exact.inertia
    unit = X.astype(float)
    if metric == "cosine":
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(quick.centroids, axis=1), 1, atol=1e-6)
    assert np.array_equal(quick.labels, nearest(unit, quick.centroids))
    assert quick.history[-1] == pytest.approx(quick.inertia, rel=1e-6)
    assert len(quick.history) == quick.n_iter + 1


def test_same_bytes_for_any_threads_and_tiles(lists):
    X, before, seen = mixture(3000), torch.get_num_threads(), set()
    weight = np.random.default_rng(0).random(3000)
    try:
        for threads, tile in ((1, 1 << 19), (2, 1 << 19), (2, 1 << 12)):
            torch.set_num_threads(threads)
            result = kmeans(X, 100, algorithm="accelerated", init="auto", sample_weight=weight, tile=tile)
            seen.add((result.centroids.tobytes(), result.labels.tobytes(), tuple(result.history)))
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 1


def test_relaxed_updates_save_iterations(monkeypatch):
    X = mixture()
    monkeypatch.setattr(module, "_SAMPLE", 10**6)
    relaxed = kmeans(X, 150, algorithm="accelerated", init="random", n_iter=8)
    plain = kmeans(X, 150, init="random", n_iter=8)
    assert relaxed.inertia < plain.inertia
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in zip(relaxed.history, relaxed.history[1:]))


def test_rule_of_auto():
    assert module.pays(16_000, 1000) and not module.pays(15_999, 1000) and not module.pays(10**6, 999)
    X = mixture(800)
    assert kmeans(X, 20, algorithm="auto").centroids.tobytes() == kmeans(X, 20).centroids.tobytes()
    with pytest.raises(ConfigError, match="algorithm"):
        kmeans(X, 20, algorithm="elkan")


def test_options_keep_working(lists):
    X = mixture(2000)
    weight = (np.arange(2000) < 900).astype(float)
    weighted = kmeans(X, 70, algorithm="accelerated", sample_weight=weight, n_init=2)
    alone = kmeans(X[:900], 70, algorithm="accelerated")
    assert weighted.inertia == pytest.approx(alone.inertia, rel=0.1)
    start = np.concatenate([X[:66], np.full((4, 24), 1e3, np.float32)])
    repaired = kmeans(X, 70, algorithm="accelerated", init=start, empty="repair")
    assert (np.bincount(repaired.labels, minlength=70) > 0).all()
    zero = kmeans(X, 70, algorithm="accelerated", n_iter=0)
    assert zero.n_iter == 0 and np.array_equal(zero.labels, nearest(X, zero.centroids))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5), st.integers(1, 40), st.booleans())
def test_few_distinct_points(seed, n, d, distinct, quick):
    """Duplicates, constant rows, k near n, fewer distinct points than k."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, (distinct, d))[rng.integers(0, distinct, n)].astype(np.float64)
    k = int(rng.integers(1, n + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = kmeans(X, k, algorithm="accelerated" if quick else "lloyd", init="auto")
    assert np.isfinite(result.centroids).all() and result.centroids.shape == (k, d)
    exact = np.square(X[:, None] - result.centroids).sum(-1)
    assert (exact[np.arange(n), result.labels] <= exact.min(1) + 1e-12).all()
    if not quick and k >= len(np.unique(X, axis=0)):
        assert result.inertia < 1e-12
