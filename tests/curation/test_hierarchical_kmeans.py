import inspect
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from strata.curation import EmbeddingStore, HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchical_kmeans import check_levels
from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.resample import resampled_rows
from strata.curation.kmeans.two_step import Settings, cluster, spawned
from strata.curation.uniformity import kl_to_uniform_2d


def skewed(n=1500, d=6, seed=0):
    rng = np.random.default_rng(seed)
    group = np.minimum(rng.zipf(1.6, n), 40) - 1
    return (3 * rng.standard_normal((40, d))[group] + rng.standard_normal((n, d))).astype(np.float32)


def fitted(X=None, k=(100, 25, 6), **options):
    return HierarchicalKMeans(k, **({"n_resamples": 2, "verbose": False} | options)).fit(skewed() if X is None else X)


def nearest(X, C):
    return np.square(X[:, None].astype(float) - C.astype(float)).sum(-1).argmin(1)


def test_levels_fit_together():
    X = skewed()
    model = fitted(X)
    h = model.hierarchy_
    assert h.n_clusters == (100, 25, 6) and h.n == 1500
    inputs = X
    for level, fit in zip(h.levels, model.levels_):
        assert level.assignment.dtype == np.int32 and level.distance.dtype == np.float32
        assert np.array_equal(level.assignment, nearest(inputs, level.centroids))  # B: labels are true nearest ones
        expected = np.sqrt(np.square(inputs - level.centroids[level.assignment], dtype=float).sum(1))
        np.testing.assert_allclose(level.distance, expected, rtol=1e-4, atol=1e-5)
        assert fit.inertia == pytest.approx(np.square(expected).sum(), rel=1e-4)
        assert len(fit.inertias) == len(fit.history) == len(fit.n_iter) == 3
        inputs = level.centroids
    assert np.array_equal(model.labels_, h.labels(1)) and model.labels_.dtype == np.int32
    assert model.cluster_centers_.shape == (100, 6) and model.n_features_in_ == 6
    assert model.inertia_ == model.levels_[0].inertia and model.n_iter_ == model.levels_[0].n_iter[-1]
    assert np.array_equal(model.predict(X), model.labels_)
    assert len(h.sample(300)) == 300


def naive_run(X, k, seed):
    """k-means++ of ours (its draws are tested elsewhere), then Lloyd written out."""
    C = kmeans(X, k, n_iter=0, random_state=seed).centroids.copy()
    for _ in range(50):
        A = nearest(X, C)
        for j in range(k):
            if (j == A).any():
                C[j] = X[j == A].mean(0)
    return C


@pytest.mark.parametrize("by", ["closest", "random"])
def test_resampling_against_a_naive_algorithm_1(by):
    X = skewed(200, 3).astype(np.float64)
    model = fitted(X, (20, 5), n_resamples=(3, 2), resample_size=(3, 2), resample_by=by, random_state=7)
    root, inputs = np.random.SeedSequence(7), X
    for number, (k, m, r) in enumerate([(20, 3, 3), (5, 2, 2)], 1):
        level_seed = spawned(root, number)
        C = naive_run(inputs, k, spawned(level_seed, 0, 0))
        for step in range(1, m + 1):
            L = nearest(inputs, C)
            key = np.random.default_rng(spawned(level_seed, step, 0)).random(len(inputs))
            R = []
            for i in range(k):
                members = np.flatnonzero(i == L)
                to_center = np.square(inputs[members] - C[i]).sum(1)
                R += members[np.argsort(to_center if by == "closest" else key[members], kind="stable")[:r]].tolist()
            C = naive_run(inputs[sorted(R)], k, spawned(level_seed, step, 1, 0))
        np.testing.assert_allclose(model.hierarchy_.levels[number - 1].centroids, C, atol=1e-12)
        assert np.array_equal(model.hierarchy_.levels[number - 1].assignment, nearest(inputs, C))
        inputs = C


def test_resampled_rows():
    points = Points(np.arange(6.0)[:, None])
    labels, distance = np.array([0, 0, 0, 2, 2, 0]), np.array([3.0, 1, 1, 5, 4, 0])
    rng = np.random.default_rng(0)
    assert resampled_rows(points, labels, distance, 3, 2, "closest", 1, rng).tolist() == [
        1,
        3,
        4,
        5,
    ]  # 1 before 2: lower row
    assert resampled_rows(points, labels, distance, 3, 1, "closest", 1, rng).tolist() == [4, 5]
    assert resampled_rows(points, labels, distance, 3, 1, "closest", 3, rng).tolist() == [
        1,
        3,
        4,
        5,
    ]  # B4: 1 each is too few
    assert resampled_rows(points, labels, distance, 3, 9, "closest", 6, rng).tolist() == [0, 1, 2, 3, 4, 5]
    draws = [resampled_rows(points, labels, distance, 3, 2, "random", 1, np.random.default_rng(s)) for s in range(800)]
    seen = np.bincount(np.concatenate(draws), minlength=6) / 800
    assert np.abs(seen[[0, 1, 2, 5]] - 0.5).max() < 0.07 and seen[3] == seen[4] == 1


def test_b1_equal_sizes_and_k_equal_to_n():
    X = np.random.default_rng(0).standard_normal((30, 2))
    model = fitted(X, (30, 10, 1), resample_size=2)
    assert np.bincount(model.labels_).tolist() == [1] * 30
    assert len(model.hierarchy_.sample(13)) == 13


def test_b4_fewer_points_to_resample_than_clusters():
    """Nearly all rows are copies: clusters are empty, and resampling finds fewer points than clusters."""
    X = np.concatenate([np.zeros((200, 2)), np.random.default_rng(0).standard_normal((12, 2))])
    with pytest.warns(RuntimeWarning, match="distinct clusters of the 40") as told:
        model = fitted(X, (40, 10, 3), n_resamples=3, resample_size=2)
    assert len(told) <= 3  # once per level
    assert model.hierarchy_.n_clusters == (40, 10, 3)
    for n in (1, 50, 212):
        assert len(set(model.hierarchy_.sample(n).tolist())) == n


def test_b5_offset_data():
    X = skewed().astype(np.float64)
    near, far = fitted(X, n_resamples=0, dtype="float64"), fitted(X + 1024, n_resamples=0, dtype="float64")
    assert near.inertia_ == pytest.approx(far.inertia_, rel=1e-6)
    moved = (X + 1000).astype(np.float32)
    model = fitted(moved)
    assert np.array_equal(model.labels_, nearest(moved, model.cluster_centers_))


def test_b12_bad_rows_are_named():
    X = skewed()
    X[[3, 700]] = np.nan
    with pytest.raises(DataError, match="3, 700"):
        fitted(X)


def test_repeatable_and_seeded_by_level():
    X = skewed()
    a, b, c = fitted(X), fitted(X), fitted(X, random_state=1)
    assert all(p.centroids.tobytes() == q.centroids.tobytes() for p, q in zip(a.levels_, b.levels_))
    assert a.cluster_centers_.tobytes() != c.cluster_centers_.tobytes()
    # A level does not depend on how much randomness another one used.
    same_start = fitted(X, (100, 20), n_resamples=(2, 0))
    assert same_start.cluster_centers_.tobytes() == a.cluster_centers_.tobytes()
    assert fitted(X, random_state=None).inertia_ > 0


def test_same_bytes_for_any_threads_and_input(tmp_path):
    X = skewed(800).astype(np.float16)
    np.save(tmp_path / "x.npy", X)
    store = EmbeddingStore.from_array(tmp_path / "store", X, shard_rows=300)
    kinds = [X, np.load(tmp_path / "x.npy", mmap_mode="r"), torch.from_numpy(X), store]
    before = torch.get_num_threads()
    try:
        results = []
        for threads, data in zip((1, 2, 1, 2), kinds):
            torch.set_num_threads(threads)
            results.append(fitted(data, (50, 10), n_resamples=1))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for mine, level in zip(results[0].hierarchy_.levels, other.hierarchy_.levels):
            assert mine.centroids.tobytes() == level.centroids.tobytes()
            assert mine.assignment.tobytes() == level.assignment.tobytes()
            assert mine.distance.tobytes() == level.distance.tobytes()
    assert np.array_equal(results[0].predict(store), results[0].labels_)


@pytest.mark.parametrize("n_resamples", [0, 2])
def test_two_step_levels(n_resamples):
    X = skewed()
    model = fitted(X, (12, 8), n_splits=(10, 1), n_resamples=n_resamples)
    h = model.hierarchy_
    assert h.n_clusters == (120, 8)
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_))  # assigned among all, not inside its part
    # Equal parts of unequal clusters cost something (about 20 % here), but far less than the coarse step alone.
    whole, coarse = (fitted(X, k, n_resamples=n_resamples) for k in ((120, 8), (12, 8)))
    assert whole.inertia_ < model.inertia_ < 0.5 * coarse.inertia_
    assert len(h.sample(200)) == 200


def test_two_step_splits_are_kmeans_of_each_cluster():
    X = skewed(400, 2).astype(np.float64)
    seed = np.random.SeedSequence(3)
    result = cluster(Points(X), 4, 5, Settings(), seed)
    first = kmeans(X, 4, random_state=spawned(seed, 0))
    assert result.centroids.shape == (20, 2)
    assert np.array_equal(result.labels, nearest(X, result.centroids))
    sizes = np.bincount(first.labels, minlength=4)
    start = 0
    assert (sizes >= 5).all()  # so each is split in exactly five
    for number in range(4):
        part = kmeans(X[first.labels == number], 5, random_state=spawned(seed, 2, number))
        assert np.array_equal(result.centroids[start : start + 5], part.centroids)
        start += 5


def test_two_step_makes_up_for_small_clusters():
    X = np.concatenate([np.zeros((1, 2)), 100 + np.random.default_rng(0).standard_normal((60, 2))])
    result = cluster(Points(X), 2, 10, Settings(), np.random.SeedSequence(0))
    assert result.centroids.shape == (20, 2) and (np.bincount(result.labels, minlength=20) > 0).all()


def test_fit_fraction():
    X = skewed(3000)
    model = fitted(X, fit_fraction=0.25)
    assert model.labels_.shape == (3000,)
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_))
    assert model.inertia_ == pytest.approx(np.square(model.hierarchy_.levels[0].distance.astype(float)).sum(), rel=1e-5)
    assert fitted(X).inertia_ < model.inertia_ < 1.6 * fitted(X).inertia_
    with pytest.raises(ConfigError) as error:
        fitted(X, fit_fraction=0.03)
    assert error.value.field == "hierarchy.fit_fraction"


def test_cosine_levels_are_spherical():
    X = skewed() * np.random.default_rng(0).uniform(0.1, 10, (1500, 1)).astype(np.float32)
    model = fitted(X, metric="cosine")
    unit = X.astype(float) / np.linalg.norm(X.astype(float), axis=1, keepdims=True)
    for level in model.hierarchy_.levels:
        np.testing.assert_allclose(np.linalg.norm(level.centroids, axis=1), 1, atol=1e-6)
        cos = (unit * level.centroids[level.assignment]).sum(1)
        np.testing.assert_allclose(level.distance, 1 - cos, atol=1e-5)
        assert np.array_equal(level.assignment, nearest(unit, level.centroids))
        unit = level.centroids / np.linalg.norm(level.centroids.astype(float), axis=1, keepdims=True)
    assert np.array_equal(model.predict(7 * X), model.labels_)


@pytest.mark.parametrize("init", ["random", "scalable", ("scalable", "k-means++", "random")])
def test_inits_by_level(init):
    model = fitted(init=init)
    assert model.hierarchy_.n_clusters == (100, 25, 6)


def test_dtype_and_tolerance_and_iterations():
    X = skewed()
    assert fitted(X).cluster_centers_.dtype == np.float32
    assert fitted(X, dtype="float64").cluster_centers_.dtype == np.float64
    assert fitted(X, n_iter=1).n_iter_ == 1
    assert fitted(X, n_iter=1000, tol=0.1).levels_[0].n_iter[0] < fitted(X, n_iter=1000).levels_[0].n_iter[0]


def test_progress_shows_rate(capsys):
    fitted(verbose=True)
    told = capsys.readouterr().err
    assert "level 1/3: 100 clusters" in told and "iteration" in told and "150/150" in told
    fitted(verbose=False)
    assert capsys.readouterr().err == ""


def test_scikit_learn_conventions():
    assert "fit" in dir(HierarchicalKMeans) and not vars(HierarchicalKMeans((3, 2))).keys() & {"labels_", "hierarchy_"}
    model = HierarchicalKMeans((3, 2), n_resamples=1, resample_by="random", verbose=False)
    assert clone(model).get_params() == model.get_params()
    parameters = inspect.signature(HierarchicalKMeans).parameters
    assert set(model.get_params()) == set(parameters)
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "n_clusters")
    assert model.set_params(n_iter=7).n_iter == 7
    with pytest.raises(ConfigError, match="no such setting"):
        model.set_params(k=3)
    assert "n_iter=7" in repr(model)
    X = np.random.default_rng(0).standard_normal((20, 2))
    assert np.array_equal(model.fit_predict(X), model.labels_) and model.fit(X) is model
    nonsense = HierarchicalKMeans("x", n_iter=-3, init=4)  # __init__ stores, fit validates
    with pytest.raises(ConfigError):
        nonsense.fit(X)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("hierarchy.n_clusters", {"n_clusters": (20, 20)}),
        ("hierarchy.n_clusters", {"n_clusters": (10, 20)}),
        ("hierarchy.n_clusters", {"n_clusters": (51,)}),
        ("hierarchy.n_clusters", {"n_clusters": ()}),
        ("hierarchy.n_clusters", {"n_clusters": 20}),
        ("hierarchy.n_clusters", {"n_clusters": (20, 0)}),
        ("hierarchy.n_clusters", {"n_clusters": (20.0, 5)}),
        ("hierarchy.n_clusters", {"n_clusters": (20, 5), "n_splits": 3}),
        ("hierarchy.n_splits", {"n_splits": 0}),
        ("hierarchy.n_resamples", {"n_resamples": (1, 2, 3)}),
        ("hierarchy.n_resamples", {"n_resamples": -1}),
        ("hierarchy.resample_size", {"resample_size": 0}),
        ("hierarchy.resample_by", {"resample_by": "furthest"}),
        ("hierarchy.init", {"init": "kmeans++"}),
        ("hierarchy.init", {"init": ("random",)}),
        ("hierarchy.memory", {"memory": "lots"}),
        ("hierarchy.memory", {"memory": 7}),
        ("hierarchy.memory", {"memory": True}),
        ("hierarchy.algorithm", {"algorithm": "elkan"}),
        ("hierarchy.metric", {"metric": "l1"}),
        ("hierarchy.n_iter", {"n_iter": -1}),
        ("hierarchy.tol", {"tol": -1.0}),
        ("hierarchy.dtype", {"dtype": "float16"}),
        ("hierarchy.device", {"device": "abacus"}),
        ("hierarchy.fit_fraction", {"fit_fraction": 0.0}),
        ("hierarchy.fit_fraction", {"fit_fraction": 1.5}),
        ("hierarchy.fit_fraction", {"fit_fraction": "0.5"}),
        ("hierarchy.fit_fraction", {"fit_fraction": True}),
        ("hierarchy.tol", {"tol": "1e-3"}),
        ("hierarchy.tol", {"tol": True}),
        ("hierarchy.tol", {"tol": None}),
        ("hierarchy.n_iter", {"n_iter": True}),
        ("hierarchy.n_iter", {"n_iter": 5.0}),
        ("hierarchy.n_splits", {"n_splits": 1.5}),
        ("hierarchy.n_resamples", {"n_resamples": None}),
        ("hierarchy.n_resamples", {"n_resamples": "3"}),
        ("hierarchy.init", {"init": 4}),
        ("hierarchy.random_state", {"random_state": "0"}),
        ("hierarchy.random_state", {"random_state": -1}),
        ("hierarchy.random_state", {"random_state": 1.5}),
        ("hierarchy.random_state", {"random_state": True}),
        ("X", {"X": np.zeros(5)}),
    ],
)
def test_bad_settings(field, options):
    arguments = {"n_clusters": (20, 5), "verbose": False} | options
    X = arguments.pop("X", skewed(50))
    with pytest.raises(ConfigError) as error:
        HierarchicalKMeans(**arguments).fit(X)
    assert error.value.field == field


def test_predict_needs_a_fit_and_the_same_features():
    with pytest.raises(ConfigError, match="call fit"):
        HierarchicalKMeans((3, 2)).predict(np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="features"):
        fitted().predict(np.zeros((2, 5)))


def test_check_levels_takes_what_a_config_gives():
    check_levels([3000, 1000, 300], 9000)
    check_levels([100, 500], 10**6, n_splits=[100, 1])
    with pytest.raises(ConfigError, match="use at most 99"):
        check_levels([100], 99)


def test_saved_hierarchy_is_the_one_fitted(tmp_path):
    model = fitted()
    model.hierarchy_.save(tmp_path / "h")
    back = Hierarchy.load(tmp_path / "h")
    assert np.array_equal(back.sample(200, within="closest"), model.hierarchy_.sample(200, within="closest"))


def test_public_names_load_on_first_use():
    import strata.curation as room

    assert {"EmbeddingStore", "Hierarchy", "HierarchicalKMeans"} <= set(room.__all__)
    assert room.HierarchicalKMeans is sys.modules["strata.curation.hierarchical_kmeans"].HierarchicalKMeans
    with pytest.raises(AttributeError, match="Nothing"):
        _ = room.Nothing


def fig3_points(seed):
    """The 9,000 points of Fig. 3 (notebook of the authors: three Gaussians and uniform noise)."""
    rng = np.random.default_rng(seed)
    gaussians = [((-1, -1), 7000), ((1, -1), 1000), ((0, 1), 500)]
    return np.concatenate([rng.normal(c, 0.5, (n, 2)) for c, n in gaussians] + [rng.uniform(-3, 3, (500, 2))])


@pytest.mark.slow
def test_fig3_order_of_the_methods():
    """KL of 300 centroids to uniform; paper: k-means .33-.34, 2 levels .13, 3 levels .08, with resampling .04-.05."""
    X = fig3_points(0)
    arms = {"data": kl_to_uniform_2d(X)}
    for name, k, m in [
        ("flat", (300,), 0),
        ("2 levels", (1500, 300), 0),
        ("3 levels", (3000, 1000, 300), 0),
        ("3 levels, resampling", (3000, 1000, 300), 10),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            model = HierarchicalKMeans(k, n_resamples=m, resample_size=2, verbose=False).fit(X)
        arms[name] = kl_to_uniform_2d(model.hierarchy_.levels[-1].centroids)
    print(arms)
    assert arms["data"] > 0.9 and 0.28 < arms["flat"] < 0.4
    assert 0.1 < arms["2 levels"] < 0.17 and 0.06 < arms["3 levels"] < 0.12
    assert arms["3 levels, resampling"] < 0.07
