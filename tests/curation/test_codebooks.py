"""Codebooks of Figs. 2 and 3: k-means with |x - c|^s, DBSCAN, agglomerative, uniform; and the simulated points."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.codebooks.agglomerative import AgglomerativeCodebook
from strata.curation.codebooks.base import Codebook
from strata.curation.codebooks.dbscan import DBSCANCodebook
from strata.curation.codebooks.power import PowerKMeansCodebook
from strata.curation.codebooks.uniform import UniformCodebook
from strata.curation.density_exponent import density_exponent
from strata.curation.encoders.coordinates import Coordinates
from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.power import descend, nearest, plus_plus_power, power_kmeans, power_radius
from strata.curation.pools.base import Pool
from strata.curation.pools.inventory import take_inventory
from strata.curation.pools.simulated import SimulatedPool
from strata.curation.uniformity import density_2d, kl_to_uniform_2d


def fig3_points(n: int, seed: int) -> np.ndarray:
    """The mixture of Fig. 3 with n points."""
    shares = ((7, (-1, -1)), (1, (1, -1)), (0.5, (0, 1)))
    gaussians = [{"n": int(n * share / 9), "center": center, "sigma": 0.5} for share, center in shares]
    pool = SimulatedPool(gaussians, n_uniform=n // 18, seed=seed)
    return np.stack([pool[row] for row in range(len(pool))]).astype(np.float64)


@pytest.mark.parametrize("power", [3, 16, 256])
def test_descent_finds_the_convex_minimum(power):
    X = np.random.default_rng(power).normal(size=(40, 2))
    center, labels = X.mean(axis=0, keepdims=True), np.zeros(40, np.int32)
    for _ in range(60):
        center = descend(X, center, labels, power)

    def radius(c):
        return power_radius(X, c[None], labels, power)

    best = scipy.optimize.minimize(
        radius, X.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    assert radius(center[0]) == pytest.approx(best.fun, rel=1e-3)


def test_power_two_is_the_mean_and_large_power_the_middle():
    X, labels = np.array([[0.0], [0.1], [0.2], [5.0]]), np.zeros(4, np.int32)
    assert descend(X, X[:1], labels, 2.0)[0, 0] == pytest.approx(X.mean())
    center = X[:1]
    for _ in range(300):
        center = descend(X, center, labels, 256.0)
    assert center[0, 0] == pytest.approx(2.5, abs=0.05)


def test_descent_never_raises_the_distortion_and_leaves_empty_clusters():
    rng = np.random.default_rng(0)
    X, centers = rng.normal(size=(200, 3)), rng.normal(size=(12, 3))
    labels = np.minimum(nearest(X, centers), 10)  # 11 is empty
    moved = descend(X, centers, labels, 8.0)
    assert np.array_equal(moved[11], centers[11])
    for j in range(11):
        if (labels == j).any():
            old, new = (np.sum(np.linalg.norm(X[labels == j] - c[j], axis=1) ** 8) for c in (centers, moved))
            assert new <= old * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2.0, 4.0, 64.0]), st.integers(1, 2))
def test_power_kmeans_falls_and_labels_are_nearest(seed, power, d):
    X = np.random.default_rng(seed).normal(size=(60, d)).round(1)  # with duplicates
    found = power_kmeans(X, 7, power=power, n_iter=10, random_state=seed)
    assert (np.diff(found.history) <= 1e-12).all()
    distance = np.linalg.norm(X[:, None] - found.centroids, axis=2)
    assert np.allclose(distance[np.arange(60), found.labels], distance.min(axis=1))
    again = power_kmeans(X, 7, power=power, n_iter=10, random_state=seed)
    assert np.array_equal(again.centroids, found.centroids)


def test_seeding_follows_d_to_the_power():
    """The second center of three points, from the law itself."""
    X = np.array([[0.0], [1.0], [2.0]])
    second = {0: np.zeros(3), 1: np.zeros(3), 2: np.zeros(3)}
    for seed in range(3000):
        first, other = plus_plus_power(X, 2, 4.0, np.random.default_rng(seed))
        second[first][other] += 1
    assert second[0][2] / second[0].sum() == pytest.approx(16 / 17, abs=0.02)
    assert second[1][2] / second[1].sum() == pytest.approx(1 / 2, abs=0.05)


def test_seeding_does_not_underflow_and_fills_up_duplicates():
    X = np.concatenate([[[1e6]], np.linspace(0, 1e-3, 99)[:, None]])
    assert len(set(plus_plus_power(X, 50, 256.0, np.random.default_rng(0)).tolist())) == 50
    same = plus_plus_power(np.zeros((5, 2)), 4, 4.0, np.random.default_rng(0))
    assert len(set(same.tolist())) == 4


def test_exponents_of_fig_2():
    """Centroid density p^(1/(1+s)) on a line: 1/3 for k-means, 1/9 for s = 8 and for two levels."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0.3, 0.1, 10000), rng.normal(0.7, 0.1, 2000), rng.uniform(0, 1, 1000)])
    X = X[(X > 0) & (X < 1)][:, None]
    t = {s: density_exponent(PowerKMeansCodebook(400, s, 5).fit(X, 0).points, X) for s in (2, 8)}
    assert t[2] == pytest.approx(1 / 3, abs=0.04) and t[8] == pytest.approx(1 / 9, abs=0.04)
    levels = PowerKMeansCodebook([1500, 200]).fit(X, 0)
    assert density_exponent(levels.points, X) == pytest.approx(1 / 9, abs=0.06) and len(levels.labels) == len(X)
    assert density_exponent(X, X) == pytest.approx(1, abs=0.01)
    assert density_exponent(rng.uniform(0, 1, 600), X) == pytest.approx(0, abs=0.05)


def test_exponent_refuses_what_is_not_on_a_line():
    with pytest.raises(DataError, match="line"):
        density_exponent(np.zeros((9, 2)), np.zeros(9))
    with pytest.raises(DataError, match="fewer groups"):
        density_exponent(np.arange(9.0), np.arange(9.0), groups=20)


def test_order_of_fig_3_on_a_fifth_of_the_points():
    """Printed: data .95, agglomerative .36, k-means .33, s=4 .19, s=64 .06, lower bound .04."""
    X = fig3_points(1800, 0)
    methods = {"agglomerative": AgglomerativeCodebook(100)}
    methods |= {s: PowerKMeansCodebook(100, s, 5) for s in (2, 4, 64)} | {"uniform": UniformCodebook(100, [-3, 3], 1)}
    kl = {name: kl_to_uniform_2d(method.fit(X, 0).points, step=0.1) for name, method in methods.items()}
    assert kl_to_uniform_2d(X, step=0.1) > 0.8
    assert 0.5 > kl["agglomerative"] > kl[4] > kl[64] and kl[2] > kl[4] > 2 * kl[64]


def test_kl_is_that_of_a_sum_of_scipys_normals():
    from scipy.stats import multivariate_normal

    X = np.random.default_rng(0).normal(size=(20, 2))
    at = np.arange(-3, 3, 0.1) + 0.05
    grid = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1)
    density = sum(multivariate_normal(point, 0.25).pdf(grid) for point in X)
    share = density / density.sum()
    assert np.allclose(density_2d(X, step=0.1), share)
    assert kl_to_uniform_2d(X, step=0.1) == pytest.approx(float((share * np.log(share * 3600)).sum()))


def test_lower_bound_is_the_notebooks():
    """300 uniform points: .040 with a deviation of .007 over draws."""
    points = UniformCodebook(300, [-3, 3], 20).fit(np.zeros((1, 2)), 0).points
    kl = [kl_to_uniform_2d(draw, step=0.1) for draw in np.split(points, 20)]
    assert np.mean(kl) == pytest.approx(0.040, abs=0.005) and np.std(kl) == pytest.approx(0.007, abs=0.004)


def test_dbscan_is_means_of_clusters_without_noise():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(c, 0.05, (100, 2)) for c in (0.0, 3.0)] + [rng.uniform(-9, 9, (20, 2))])
    book = DBSCANCodebook(min_samples=5, eps_rank=25).fit(X, 0)
    assert len(book.points) == 2 and np.allclose(np.sort(book.points[:, 0]), [0, 3], atol=0.1)
    assert (book.labels < 0).any() and np.allclose(book.points[0], X[book.labels == 0].mean(axis=0))
    with pytest.raises(ConfigError, match="eps_rank"):
        DBSCANCodebook().fit(X, 0)


def test_codebook_survives_the_disk_and_refuses_nonsense(tmp_path):
    book = Codebook(np.arange(4.0).reshape(2, 2), np.array([0, 1, -1], np.int32), 2)
    book.save(tmp_path / "book", key="k")
    again = Codebook.load(tmp_path / "book")
    assert (
        np.array_equal(again.points, book.points) and np.array_equal(again.labels, book.labels) and again.n_draws == 2
    )
    (tmp_path / "book" / "points.npy").write_bytes(b"")
    with pytest.raises(DataError, match="run the stage again"):
        Codebook.load(tmp_path / "book")
    with pytest.raises(DataError):
        Codebook(np.zeros((2, 2)), np.array([2]))
    with pytest.raises(DataError):
        Codebook(np.full((1, 2), np.nan), np.array([0]))


def test_simulated_pool(tmp_path):
    gaussians = [{"n": 30, "center": [0.1], "sigma": 0.5}, {"n": 20, "center": [0.9], "sigma": 0.1}]
    pool = SimulatedPool(gaussians, n_uniform=10, box=[0, 1], truncate=True)
    assert isinstance(pool, Pool) and len(pool) == 60 and np.bincount(pool.labels).tolist() == [30, 20, 10]
    rows = np.stack([pool[row] for row in range(60)])
    assert rows.dtype == np.float32 and rows.min() >= 0 and rows.max() <= 1
    assert pool.fingerprint == SimulatedPool(gaussians, n_uniform=10, box=[0, 1], truncate=True).fingerprint
    assert pool.fingerprint != SimulatedPool(gaussians, n_uniform=10, box=[0, 1], truncate=True, seed=1).fingerprint
    assert take_inventory(pool, tmp_path / "pool").is_dir()
    encoder = Coordinates(1)
    assert encoder.encode(encoder.transform(pool[3])[None]).numpy() == pool[3]
    with pytest.raises(IndexError):
        pool[60]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gaussians": []}, "pool.gaussians"),
        ({"gaussians": [{"n": 1, "center": [0]}]}, "pool.gaussians"),
        ({"gaussians": [{"n": 1, "center": [0], "sigma": 0}]}, "pool.gaussians"),
        ({"box": [1, 1]}, "pool.box"),
        ({"truncate": True, "box": [100, 101]}, "pool.box"),
    ],
)
def test_simulated_pool_names_what_is_wrong(change, field):
    with pytest.raises(ConfigError, match=field):
        SimulatedPool(**{"gaussians": [{"n": 5, "center": [0], "sigma": 1.0}], **change})


@pytest.mark.parametrize(
    "make",
    [
        lambda: PowerKMeansCodebook(5, 1.0),
        lambda: PowerKMeansCodebook([5, 9]).fit(np.zeros((20, 1)), 0),
        lambda: AgglomerativeCodebook(9).fit(np.zeros((5, 2)), 0),
        lambda: DBSCANCodebook(0),
        lambda: UniformCodebook(3, [1, 0]),
        lambda: Coordinates(0),
        lambda: Coordinates(2).transform("a word"),
        lambda: power_kmeans(np.zeros((5, 2)), 6, power=4),
    ],
)
def test_bad_settings_are_named(make):
    with pytest.raises(ConfigError):
        make()
