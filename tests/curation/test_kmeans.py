import hashlib
import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans import bounds
from strata.curation.kmeans import points as points_module
from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.share import Share
from strata.curation.kmeans.sums import ClusterSums


def blobs(n=1500, d=5, k=12, seed=0, spread=4.0):
    rng = np.random.default_rng(seed)
    return (spread * rng.standard_normal((k, d))[rng.integers(0, k, n)] + rng.standard_normal((n, d))).astype(
        np.float32
    )


def naive_lloyd(X, C, n_iter):
    """Another implementation: C0, A0, then n_iter times means and assignment, all in float64."""
    C = C.astype(np.float64)
    A = np.square(X[:, None] - C).sum(-1).argmin(1)
    for _ in range(n_iter):
        for j in range(len(C)):
            if (j == A).any():
                C[j] = X[j == A].mean(0)
        A = np.square(X[:, None] - C).sum(-1).argmin(1)
    return C, A


@pytest.mark.parametrize("n_iter", [0, 1, 7])
def test_agrees_with_a_naive_lloyd(n_iter):
    X = blobs().astype(np.float64)
    result = kmeans(X, 30, init=X[:30], n_iter=n_iter)
    C, A = naive_lloyd(X, X[:30], n_iter)
    assert np.array_equal(result.labels, A)
    np.testing.assert_allclose(result.centroids, C, atol=1e-12)
    assert result.n_iter == n_iter and len(result.history) == n_iter + 1
    assert result.inertia == pytest.approx(np.square(X - C[A]).sum(), rel=1e-12)
    assert result.history[-1] == pytest.approx(result.inertia, rel=1e-9)


def test_agrees_with_scikit_learn_from_the_same_init():
    X = blobs(3000)
    peer = KMeans(25, init=X[:25], n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(X)
    result = kmeans(X, 25, init=X[:25], n_iter=300)
    assert result.converged
    assert np.array_equal(result.labels, peer.labels_)
    np.testing.assert_allclose(result.centroids, peer.cluster_centers_, atol=1e-5)
    assert result.inertia == pytest.approx(peer.inertia_, rel=1e-6)


def test_toy_of_the_paper_in_one_dimension():
    """Section 3.2: 5000 points in [0.9, 1.1], 2 at 2, 2 at 3: splitting the big concept beats keeping the rare ones."""
    X = np.concatenate([np.linspace(0.9, 1.1, 5000), [2, 2, 3, 3]])[:, None]
    concepts = kmeans(X, 3, init=np.array([[1.0], [2.0], [3.0]]))
    split = kmeans(X, 3, init=np.array([[0.95], [1.05], [2.5]]))
    assert concepts.inertia == pytest.approx(16.67, abs=0.02) and concepts.converged
    assert split.inertia == pytest.approx(5.17, abs=0.02)  # the paper prints 6.0; its arithmetic gives 5.17
    assert kmeans(X, 3, n_init=5).inertia < 6  # 5.97 where 2 goes to the upper half: also a split


@pytest.mark.parametrize("n_iter", [3, 30])
@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_pruned_passes_give_the_labels_of_full_ones(n_iter, spread, monkeypatch):
    X = blobs(3000, 20, 60, spread=spread)
    looked = []
    real = bounds.nearest_rows
    monkeypatch.setattr(bounds, "nearest_rows", lambda p, x, *a, **k: (looked.append(len(x)), real(p, x, *a, **k))[1])
    pruned = kmeans(X, 80, init=X[:80], n_iter=n_iter)
    monkeypatch.setattr(bounds.Bounds, "drift", lambda self, before, after, k: bounds.Drift.everything(after, k))
    few, looked[:] = sum(looked), []
    full = kmeans(X, 80, init=X[:80], n_iter=n_iter)
    assert pruned.labels.tobytes() == full.labels.tobytes() and pruned.centroids.tobytes() == full.centroids.tobytes()
    assert pruned.history == full.history
    assert few < sum(looked) * (0.6 if n_iter == 30 else 1.01)


def test_inertia_never_rises():
    history = kmeans(blobs(4000, 8), 60, n_iter=40, init="random").history
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in zip(history, history[1:]))


def test_early_stop_changes_nothing_and_tol_stops_earlier():
    X = blobs()
    short, full = kmeans(X, 10, n_iter=100), kmeans(X, 10, n_iter=1000)
    assert short.converged and short.n_iter == full.n_iter
    C, _ = naive_lloyd(X.astype(float), short.centroids, 1)
    np.testing.assert_allclose(C, short.centroids, atol=1e-5)
    loose = kmeans(X, 40, n_iter=1000, tol=1e-2)
    strict = kmeans(X, 40, n_iter=1000)
    assert loose.converged and loose.n_iter < strict.n_iter


def digest(result):
    told = result.centroids.tobytes() + result.labels.tobytes() + str([*result.history, result.inertia]).encode()
    return hashlib.sha256(told).hexdigest()


@pytest.mark.parametrize("init", ["k-means++", "random", "scalable"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_same_bytes_for_any_threads_and_tiles(init, metric):
    X = blobs(1200, 48) + 5
    weight = np.random.default_rng(0).random(1200)
    before, digests = torch.get_num_threads(), set()
    try:
        for threads, tile in ((1, 1 << 20), (2, 1 << 20), (1, 1 << 12), (2, 30_000)):
            torch.set_num_threads(threads)
            result = kmeans(X, 80, init=init, metric=metric, n_iter=4, tile=tile, sample_weight=weight)
            digests.add(digest(result))
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


class RangesOnly:
    """A source that can only read ranges, in float16, and counts the longest."""

    def __init__(self, X):
        self.X, self.shape, self.longest = X, X.shape, 0

    def read(self, start, stop):
        self.longest = max(self.longest, stop - start)
        return self.X[start:stop]


def test_same_bytes_for_every_kind_of_input(tmp_path, monkeypatch):
    monkeypatch.setattr("strata.curation.kmeans.points.BLOCK", 256)
    monkeypatch.setattr("strata.curation.kmeans.source.BLOCK", 256)
    monkeypatch.setattr("strata.curation.kmeans.points.STEP", 128)
    X = blobs(1000).astype(np.float16)
    np.save(tmp_path / "x.npy", X)
    ranges = RangesOnly(X)
    inputs = [X, np.load(tmp_path / "x.npy", mmap_mode="r"), torch.from_numpy(X), np.asfortranarray(X), ranges]
    results = [kmeans(data, 20, n_iter=5) for data in inputs]
    assert {result.centroids.tobytes() + result.labels.tobytes() for result in results} == {
        results[0].centroids.tobytes() + results[0].labels.tobytes()
    }
    assert results[0].centroids.dtype == np.float32 and results[0].labels.dtype == np.int32
    assert ranges.longest <= 256


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_do_not_depend_on_order_or_history(weighted):
    """Whole numbers: rows in any order, in any blocks, and moved to and fro, leave the same bytes."""
    rng = np.random.default_rng(0)
    points = Points(rng.standard_normal((1000, 3)).astype(np.float32))
    x, labels = points.centered(0, 1000), rng.integers(0, 4, 1000)
    weight = rng.random(1000) if weighted else None
    whole, pieces = (ClusterSums.zeros(Share(4), 3, 1000, weight) for _ in range(2))
    whole.add(x, labels, weight)
    order = rng.permutation(1000)
    wrong = rng.integers(0, 4, 1000)
    for rows in np.array_split(order, 7):
        own = None if weight is None else weight[rows]
        pieces.add(x[torch.from_numpy(rows)], wrong[rows], own)
        pieces.add(x[torch.from_numpy(rows)], labels[rows], own)
        pieces.add(x[torch.from_numpy(rows)], wrong[rows], own, sign=-1)
    assert whole.totals.tobytes() == pieces.totals.tobytes() and whole.masses.tobytes() == pieces.masses.tobytes()
    factor = np.ones(1000) if weight is None else weight
    for cluster in range(4):
        own = labels == cluster
        expected = (x.double().numpy()[own] * factor[own, None]).sum(0)
        np.testing.assert_allclose(whole.totals[cluster] / whole.grid, expected, atol=1e-12)
        assert whole.weights[cluster] == pytest.approx(factor[own].sum(), abs=1e-12)


def test_more_clusters_than_rows_in_a_block(monkeypatch):
    X = blobs(900)
    plain = kmeans(X, 300, n_iter=3)
    monkeypatch.setattr(points_module, "BLOCK", 100)
    blocked = kmeans(X, 300, n_iter=3)
    np.testing.assert_allclose(blocked.inertia, plain.inertia, rtol=1e-6)
    C, A = naive_lloyd(X.astype(float), X[:300], 2)
    assert np.array_equal(kmeans(X.astype(float), 300, init=X[:300], n_iter=2).labels, A)


def test_weights_count_as_copies():
    X = blobs(400).astype(np.float64)
    weight = np.random.default_rng(0).integers(0, 4, 400)
    weighted = kmeans(X, 10, init=X[:10], sample_weight=weight, n_iter=20)
    copies = kmeans(np.repeat(X, weight, axis=0), 10, init=X[:10], n_iter=20)
    np.testing.assert_allclose(weighted.centroids, copies.centroids, atol=1e-10)
    assert weighted.inertia == pytest.approx(copies.inertia)
    seeded = kmeans(X, 10, sample_weight=(np.arange(400) < 10).astype(float), n_iter=0)
    assert {tuple(row) for row in seeded.centroids} == {tuple(row) for row in X[:10]}


def test_cosine_is_spherical_kmeans():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    truth = rng.integers(0, 6, 600)
    X = (directions[truth] + 0.05 * rng.standard_normal((600, 6))) * rng.uniform(0.1, 10, (600, 1))
    result = kmeans(X, 6, metric="cosine", n_init=3)
    np.testing.assert_allclose(np.linalg.norm(result.centroids, axis=1), 1, atol=1e-12)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert np.array_equal(result.labels, (unit @ result.centroids.T).argmax(1))
    assert len({(a, b) for a, b in zip(truth, result.labels)}) == 6  # lengths play no part
    np.testing.assert_allclose(result.squared_distances, 2 - 2 * (unit @ result.centroids.T).max(1), atol=1e-12)


def test_empty_clusters_keep_their_centroid_or_are_repaired():
    X = blobs(300)
    start = np.concatenate([X[:4], np.full((2, 5), 1e4, np.float32)])
    with pytest.warns(RuntimeWarning, match="4 distinct clusters of the 6"):
        kept = kmeans(X, 6, init=start)
    assert (kept.centroids[4:] == 1e4).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repaired = kmeans(X, 6, init=start, empty="repair")
    assert (np.bincount(repaired.labels, minlength=6) > 0).all()
    assert repaired.inertia < kept.inertia


@pytest.mark.parametrize("init", ["k-means++", "random", "scalable"])
@pytest.mark.parametrize("empty", ["keep", "repair"])
def test_fewer_distinct_points_than_clusters(init, empty):
    X = np.repeat(np.array([[0.0, 0], [1, 0], [5, 5]]), [10, 10, 1], axis=0)
    with pytest.warns(RuntimeWarning, match="distinct clusters of the 8"):
        result = kmeans(X, 8, init=init, empty=empty)
    assert result.centroids.shape == (8, 2) and np.isfinite(result.centroids).all()
    if init == "k-means++":
        assert result.inertia < 1e-28 and len(set(result.labels.tolist())) == 3


@pytest.mark.parametrize("init", ["k-means++", "random", "scalable"])
def test_as_many_clusters_as_points(init):
    X = np.random.default_rng(0).standard_normal((50, 3))
    result = kmeans(X, 50, init=init)
    assert result.inertia == pytest.approx(0, abs=1e-20) and sorted(result.labels) == list(range(50))
    one = kmeans(X, 1, init=init)
    np.testing.assert_allclose(one.centroids[0], X.mean(0), atol=1e-12)


def test_restarts_keep_the_best_and_seeds_matter():
    X = blobs(600, k=20, spread=8)
    many = kmeans(X, 20, init="random", n_init=6)
    assert many.inertia <= kmeans(X, 20, init="random", n_init=1).inertia
    assert kmeans(X, 20, random_state=1).labels.tobytes() != kmeans(X, 20, random_state=2).labels.tobytes()
    assert kmeans(X, 20, random_state=1).labels.tobytes() == kmeans(X, 20, random_state=1).labels.tobytes()


def test_float16_input_and_float32_products():
    X = blobs().astype(np.float16)
    result = kmeans(X, 12)
    assert result.centroids.dtype == np.float32
    assert kmeans(X, 12, dtype="float64").centroids.dtype == np.float64
    assert kmeans(X.astype(np.float64), 12).centroids.dtype == np.float64


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("hierarchy.n_clusters", {"n_clusters": 11}),
        ("hierarchy.n_clusters", {"n_clusters": 0}),
        ("n_init", {"n_init": 0}),
        ("hierarchy.n_iter", {"n_iter": -1}),
        ("hierarchy.tol", {"tol": float("nan")}),
        ("empty", {"empty": "drop"}),
        ("hierarchy.init", {"init": "kmeans++"}),  # B10: an unknown name never means another init
        ("hierarchy.init", {"init": np.zeros((3, 2))}),
        ("sample_weight", {"sample_weight": np.ones(3)}),
    ],
)
def test_bad_settings(field, options):
    with pytest.raises(ConfigError) as error:
        kmeans(np.random.default_rng(0).standard_normal((10, 2)), **({"n_clusters": 2} | options))
    assert error.value.field == field


def test_bad_data():
    X = np.ones((5, 2))
    X[2, 0] = np.nan
    with pytest.raises(DataError, match=r"row\(s\) 2"):
        kmeans(X, 2)
    with pytest.raises(DataError, match="sample_weight"):
        kmeans(np.eye(3), 2, sample_weight=[-1, 1, 1])


@pytest.mark.parametrize("init", ["k-means++", "random", "scalable"])
@pytest.mark.parametrize("size", [1e-200, 1e200, 5e-324])
def test_cosine_at_any_length(init, size):
    X = np.rint(1000 * np.random.default_rng(0).standard_normal((200, 6)))  # whole: exact in the smallest floats too
    near, far = (kmeans(data, 8, metric="cosine", init=init, n_iter=5) for data in (X, X * size))
    assert np.array_equal(near.labels, far.labels)
    np.testing.assert_allclose(near.centroids, far.centroids, atol=1e-12)


def test_euclidean_values_out_of_range_are_named():
    X = np.random.default_rng(0).standard_normal((50, 3))
    for size in (1e-130, 1e130):
        assert np.array_equal(kmeans(X * size, 5).labels, kmeans(X, 5).labels)
    X[[4, 9], 1] = 1e200
    with pytest.raises(DataError, match=r"row\(s\) 4, 9"):
        kmeans(X, 5)
    with pytest.raises(DataError, match="multiply"):
        kmeans(np.eye(4) * 1e-200, 2)
    with pytest.raises(DataError, match="float32"):
        kmeans(np.eye(4) * 1e100, 2, dtype="float32")
    with pytest.raises(DataError, match="weight"):
        kmeans(np.eye(4), 2, sample_weight=np.full(4, 1e-320))


def test_input_is_not_changed():
    for dtype in (np.float32, np.float64):
        X = blobs().astype(dtype)
        before = hashlib.sha256(X.tobytes()).hexdigest()
        X.flags.writeable = False
        kmeans(X, 10, sample_weight=np.ones(len(X)))
        kmeans(X, 10, metric="cosine")
        assert hashlib.sha256(X.tobytes()).hexdigest() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_is_repeatable_and_agrees_with_the_cpu():
    X = blobs(20000, 32, 200)
    a, b = (kmeans(X, 300, n_iter=10, device="cuda") for _ in range(2))
    assert a.centroids.tobytes() == b.centroids.tobytes() and a.labels.tobytes() == b.labels.tobytes()
    cpu = kmeans(X, 300, n_iter=10, device="cpu")
    assert a.inertia == pytest.approx(cpu.inertia, rel=1e-6)
