import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans import distance, points
from strata.curation.kmeans.distance import assign, squared_distances
from strata.curation.kmeans.points import Points


def brute_force(X, C):
    """Labels by float64 differences, lowest index on ties."""
    return np.square(X[:, None].astype(np.float64) - C.astype(np.float64)).sum(-1).argmin(1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mean", [0, 10, 1000])
def test_labels_are_those_of_float64_brute_force(mean, dtype):
    rng = np.random.default_rng(mean)
    X = (rng.standard_normal((3000, 16)) + mean).astype(dtype)
    C = (rng.standard_normal((64, 16)) + mean).astype(np.float64 if dtype == np.float64 else np.float32)
    assert np.array_equal(assign(Points(X), C), brute_force(X, C))


def test_offset_data_needs_centering():
    """B5: the product formula in float32 without centering goes wrong; else the test above would show nothing."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((3000, 16)) + 1000).astype(np.float32)
    C = (rng.standard_normal((64, 16)) + 1000).astype(np.float32)
    naive = (np.square(C).sum(1) - 2 * X @ C.T).argmin(1)
    assert (naive != brute_force(X, C)).mean() > 0.1


def test_exact_ties_go_to_the_lowest_index():
    grid = np.stack(np.meshgrid(np.arange(30), np.arange(30)), -1).reshape(-1, 2).astype(np.float32)
    rng = np.random.default_rng(0)
    C = np.concatenate([grid[rng.permutation(900)[:100]], grid[:50] + 0.5])
    expected = np.square(grid[:, None].astype(int) * 2 - (C * 2).astype(int)).sum(-1).argmin(1)  # integers: exact
    assert np.array_equal(assign(Points(grid), C), expected)


def test_equal_centroids_give_the_first_and_stay_fast():
    X = np.ones((2000, 8), np.float32)
    C = np.concatenate([np.zeros((1, 8)), np.ones((3000, 8))]).astype(np.float32)
    assert (assign(Points(X), C) == 1).all()
    assert (assign(Points(X), -np.zeros_like(C)) == 0).all()
    signed = np.array([[1.0, 0.0], [0.0, -0.0], [0.0, 0.0]], np.float32)  # -0.0 equals 0.0
    assert assign(Points(np.array([[0.1, 0.0], [1.0, 0.0]], np.float32)), signed).tolist() == [1, 0]


def test_tight_clump_far_from_an_outlier_group_is_still_exact():
    """All clump distances lie inside float32's rounding of the spread: everything is decided in float64."""
    rng = np.random.default_rng(0)
    clump = 1e-4 * rng.standard_normal((800, 12))
    X = np.concatenate([clump, 1 + clump]).astype(np.float32)
    C = X[rng.permutation(800)[:40]]
    assert np.array_equal(assign(Points(X), C), brute_force(X, C))


@pytest.mark.parametrize("tile", [100, 4096, 1 << 22])
@pytest.mark.parametrize("threads", [1, 2])
def test_labels_do_not_depend_on_tiles_or_threads(tile, threads):
    rng = np.random.default_rng(0)
    X = rng.integers(-3, 4, (600, 6)).astype(np.float32)  # many exact ties
    C = rng.integers(-3, 4, (300, 6)).astype(np.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        labels = assign(Points(X), C, tile=tile)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(labels, brute_force(X, C))


def test_reduced_precision_set_by_others_does_not_leak_in():
    rng = np.random.default_rng(0)
    X, C = rng.standard_normal((2000, 32)).astype(np.float32), rng.standard_normal((300, 32)).astype(np.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(assign(Points(X), C), brute_force(X, C))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 9), st.floats(1e-12, 1e12), st.floats(-1e6, 1e6))
def test_any_scale_and_offset(seed, k, d, scale, offset):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((60, d)) * scale + offset * scale
    C = rng.standard_normal((k, d)) * scale + offset * scale
    labels = assign(Points(X), C)
    exact = np.square(X[:, None] - C).sum(-1)
    # float64 sums in another order may differ in the last digits; the chosen one is the smallest up to that.
    assert (exact[np.arange(60), labels] <= exact.min(1) * (1 + 1e-14)).all()


def test_squared_distances_match_numpy():
    rng = np.random.default_rng(0)
    X, C = rng.standard_normal((500, 33)), rng.standard_normal((7, 33))
    labels = rng.integers(0, 7, 500)
    np.testing.assert_allclose(squared_distances(Points(X), C, labels), np.square(X - C[labels]).sum(1), rtol=1e-13)


def test_screening_leaves_few_points_to_decide(monkeypatch):
    seen = []
    real = distance._decide
    monkeypatch.setattr(distance, "_decide", lambda p, rows, t: (seen.append(len(rows)), real(p, rows, t))[1])
    rng = np.random.default_rng(0)
    X, C = rng.standard_normal((5000, 64)).astype(np.float32), rng.standard_normal((200, 64)).astype(np.float32)
    assign(Points(X), C)
    assert sum(seen) < 50


def test_rounding_bound_holds():
    """The computed |c|^2 - 2 x.c is inside the bound, by a margin, on random and on cancelling data."""
    rng = np.random.default_rng(0)
    for d in (3, 128, 1024):
        x = torch.from_numpy(rng.standard_normal((200, d)).astype(np.float32))
        c = x[:50] + 1e-3 * torch.randn(50, d)
        exact = c.double().square().sum(1) - 2 * x.double() @ c.double().T
        computed = torch.addmm(c.square().sum(1), x, c.T, alpha=-2).double()
        allowed = distance.rounding_bound(d, torch.float32) * (
            x.double().square().sum(1)[:, None] + c.double().square().sum(1)
        )
        assert ((computed - exact).abs() <= allowed).all()


def test_points_without_a_cache_give_the_same_labels(monkeypatch):
    rng = np.random.default_rng(0)
    X, C = rng.standard_normal((1000, 8)).astype(np.float32), rng.standard_normal((20, 8)).astype(np.float32)
    cached = assign(Points(X), C)
    monkeypatch.setattr(points, "CACHE_BYTES", 0)
    streamed = Points(X)
    assert streamed._cache is None
    assert np.array_equal(assign(streamed, C), cached)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_rows_are_named(bad):
    X = np.zeros((100, 3), np.float32)
    X[[7, 42], 1] = bad
    with pytest.raises(DataError, match="7, 42"):
        Points(X)


def test_zero_rows_have_no_direction():
    X = np.ones((10, 2))
    X[3] = 0
    with pytest.raises(DataError, match=r"row\(s\) 3"):
        Points(X, metric="cosine")
    Points(X)


@pytest.mark.parametrize(
    ("X", "options"),
    [
        (np.zeros(3), {}),
        (np.zeros((0, 3)), {}),
        (np.zeros((3, 2), complex), {}),
        (np.zeros((3, 2)), {"metric": "l1"}),
        (np.zeros((3, 2)), {"dtype": "float16"}),
        (np.zeros((3, 2)), {"device": "abacus"}),
    ],
)
def test_bad_input(X, options):
    with pytest.raises(ConfigError):
        Points(X, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_labels_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    X, C = rng.standard_normal((20000, 96)).astype(np.float32), rng.standard_normal((1000, 96)).astype(np.float32)
    assert np.array_equal(assign(Points(X, device="cuda"), C), assign(Points(X, device="cpu"), C))
