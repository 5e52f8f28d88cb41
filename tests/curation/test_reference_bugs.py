"""The bugs B1 to B12 that REFERENCE.md found in Meta's code: none of them is here. Names say which is meant.

B1, B2: also test_hierarchy.py and test_meta_layout.py. B4, B5, B12: also test_hierarchical_kmeans.py.
"""

import io
import warnings
import zipfile

import numpy as np
import pytest

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.checkpoints import Checkpoints
from strata.curation.kmeans.init import initial_centroids
from strata.curation.kmeans.points import Points


def blobs(n: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(20, 5))[rng.integers(20, size=n)] * 6 + rng.normal(size=(n, 5))).astype(np.float32)


def fitted(X: np.ndarray, n_clusters: tuple[int, ...] = (30, 6), **settings) -> HierarchicalKMeans:
    return HierarchicalKMeans(n_clusters, **({"n_resamples": 1, "n_iter": 8, "verbose": False} | settings)).fit(X)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_b1_every_cluster_gives_as_many_rows(size, tmp_path):
    """Clusters of one size: resampled, sampled at two levels and saved as plain integers."""
    X = np.repeat(np.arange(40.0), 4)[:, None] * 10 + np.tile([0, 0.1, 0.2, 0.3], 40)[:, None]
    tree = fitted(X, (40, 4), resample_size=size, n_resamples=3).hierarchy_
    assert tree.sizes(1).tolist() == [4] * 40
    rows = tree.sample(20)
    assert rows.dtype == np.int64 and len(set(rows)) == 20
    np.save(tmp_path / "rows.npy", rows)
    assert np.array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), rows)


def test_b2_an_empty_cluster_above_level_1():
    tree = Hierarchy.from_assignments([[0, 0, 1, 2, 3, 3], [0, 0, 2, 2], [0, 1, 1]])
    assert tree.sizes(2).tolist() == [3, 0, 3] and len(tree.sample(4)) == 4


def test_b3_closest_means_closest_in_memory():
    X = blobs()
    model = fitted(X)
    drawn = model.hierarchy_.sample(60, within="closest")
    gap = np.linalg.norm(X - model.cluster_centers_[model.labels_], axis=1)
    for cluster in np.unique(model.labels_[drawn]):
        members = np.flatnonzero(model.labels_ == cluster)
        taken = np.intersect1d(drawn, members)
        assert gap[taken].max() <= np.delete(gap[members], np.searchsorted(members, taken)).min(initial=np.inf) + 1e-5


def test_b4_fewer_rows_to_resample_than_clusters():
    X = np.repeat(blobs(25), 12, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        model = fitted(X, (40, 5), resample_size=1, n_resamples=3)
    assert model.hierarchy_.n_clusters == (40, 5) and len(np.unique(model.labels_)) == 25


@pytest.mark.parametrize("offset", [100.0, 1000.0, 10_000.0])
def test_b5_nearest_far_from_the_origin(offset):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(2000, 16)) + offset).astype(np.float32)
    model = fitted(X, (64,), n_resamples=0, n_iter=2)
    exact = np.square(X.astype(np.float64)[:, None] - model.cluster_centers_.astype(np.float64)).sum(2)
    assert np.array_equal(model.labels_, exact.argmin(1)) and (model.levels_[0].squared_distances >= 0).all()


def test_b6_numpy_2():
    assert int(np.__version__.split(".")[0]) >= 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert len(fitted(blobs(), device="cpu").hierarchy_.sample(10)) == 10


def test_b7_states_are_no_pickles_are_read_again_and_do_not_pile_up(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    settings = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0, "algorithm": "accelerated"}
    whole, count, save = fitted(blobs(), **(settings | {"checkpoint_dir": None})), [0], Checkpoints.save

    def killed(self, *args):
        save(self, *args)
        count[0] += 1
        if count[0] == 5:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(Killed):
        fitted(blobs(), **settings)
    files = list(tmp_path.rglob("*.npz"))
    assert files
    for file in files:  # with the state of the random generator in them
        with zipfile.ZipFile(file) as packed:
            for name in packed.namelist():
                np.load(io.BytesIO(packed.read(name)), allow_pickle=False)
    loaded, load = [], Checkpoints.load
    monkeypatch.setattr(Checkpoints, "load", lambda self, *args: loaded.append(load(self, *args)) or loaded[-1])
    again = fitted(blobs(), **settings)
    assert any(state is not None for state in loaded), "it went on from them"
    assert again.cluster_centers_.tobytes() == whole.cluster_centers_.tobytes()
    assert {file.name for file in tmp_path.rglob("*.*")} == {"level1.npz", "level2.npz"}


def test_b8_an_empty_first_cluster_of_a_split_level_resumes(tmp_path):
    """Four distinct points: of the ten clusters before the split six are empty."""
    X = np.repeat(np.eye(4), 30, axis=0)
    settings = {"n_splits": (2, 1), "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        first, again = (fitted(X, (10, 2), **settings) for _ in range(2))
    assert first.hierarchy_.n_clusters == (20, 2) and (first.hierarchy_.sizes(1) == 0).any()
    assert first.labels_.tobytes() == again.labels_.tobytes()
    assert first.cluster_centers_.tobytes() == again.cluster_centers_.tobytes()


def test_b9_progress_names_the_level(capfd):
    fitted(blobs(), (30, 6, 3), verbose=True)
    said = capfd.readouterr().err
    assert all(f"level {number}/3: {k} clusters" in said for number, k in ((1, 30), (2, 6), (3, 3)))
    assert "{" not in said


def test_b10_the_documented_init_is_the_one_that_runs():
    X = blobs(2000)
    points = Points(X)

    def start(init):
        return initial_centroids(points, 20, init, np.random.default_rng(0))

    def potential(C):
        return np.square(X[:, None] - C).sum(2).min(1).sum()

    assert potential(start("k-means++")) < 0.7 * potential(start("random"))
    for name in ("kmeans++", "k-means", "k_means++"):
        with pytest.raises(ConfigError, match=r"hierarchy\.init.*k-means\+\+"):
            fitted(X, init=name)


def test_b11_a_finished_fit_again_says_nothing(tmp_path, capfd):
    first = fitted(blobs(), checkpoint_dir=tmp_path)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = fitted(blobs(), checkpoint_dir=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert first.hierarchy_.levels[1].centroids.tobytes() == again.hierarchy_.levels[1].centroids.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_b12_bad_values_are_named_by_row(bad):
    X = blobs()
    X[17, 2] = bad
    with pytest.raises(DataError, match=r"NaN or infinite values in row\(s\) 17;"):
        fitted(X)
