import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError, DataError
from strata.curation.meta_layout import (
    read_meta_layout,
    read_meta_selection,
    write_meta_layout,
    write_meta_selection,
)

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def h() -> Hierarchy:
    return HierarchicalKMeans((20, 6, 2), n_resamples=1, verbose=False).fit(X).hierarchy_


def same(one: Hierarchy, other: Hierarchy, distances: bool) -> None:
    assert one.n_clusters == other.n_clusters
    for a, b in zip(one.levels, other.levels, strict=True):
        assert np.array_equal(a.assignment, b.assignment) and b.assignment.dtype == np.int32
        assert np.array_equal(a.centroids, b.centroids)
        if distances:
            np.testing.assert_allclose(a.distance, b.distance, rtol=1e-5, atol=1e-6)
        else:
            assert b.distance is None


def theirs(path: Path, levels, steps=11) -> Path:
    """A folder as their scripts leave it: several steps (junk in all but the last), absolute links."""
    rng = np.random.default_rng(1)
    for number, (assignment, centroids) in enumerate(levels, 1):
        level = path / f"level{number}"
        for step in range(steps):
            folder = level / f"step{step}"
            folder.mkdir(parents=True)
            final = step == steps - 1
            np.save(folder / "centroids.npy", centroids if final else rng.normal(size=centroids.shape))
            np.save(folder / "cluster_assignment.npy", assignment if final else np.zeros_like(assignment))
            clusters = np.empty(len(centroids), object)
            for c in range(len(centroids)):
                clusters[c] = np.flatnonzero(assignment == c)[::-1]
            np.save(folder / "sorted_clusters.npy", clusters, allow_pickle=True)
        for name in ("centroids.npy", "sorted_clusters.npy"):
            (level / name).symlink_to((folder / name).absolute())
        (level / "logs").mkdir()
    return path


def levels_of(h: Hierarchy):
    return [(level.assignment.astype(np.int64), level.centroids.astype(np.float64)) for level in h.levels]


def test_round_trip(h, tmp_path):
    out = write_meta_layout(h, tmp_path / "sub" / "exp")
    same(h, read_meta_layout(out), distances=False)
    same(h, read_meta_layout(out, embeddings=X), distances=True)
    files = sorted(file.relative_to(out).as_posix() for file in (out / "level1").rglob("*.npy"))
    assert files == ["level1/centroids.npy", "level1/step0/centroids.npy", "level1/step0/cluster_assignment.npy"]
    assert np.load(out / "level1" / "step0" / "cluster_assignment.npy").dtype == np.int64
    shutil.move(out, tmp_path / "elsewhere")
    assert np.load(tmp_path / "elsewhere" / "level2" / "centroids.npy").shape == (6, 4), "links are relative"


def test_their_folder_last_step_and_moved(h, tmp_path):
    made = theirs(tmp_path / "exp", levels_of(h))
    moved = made.rename(tmp_path / "moved")  # their absolute links are broken now
    read = read_meta_layout(moved, embeddings=X)
    same(h, read, distances=True)
    assert np.array_equal(read.sample(50, within="closest"), h.sample(50, within="closest"))


def test_clusters_without_members_stay(tmp_path):
    levels = [(np.array([0, 0, 3, 3, 3]), np.arange(8.0).reshape(4, 2)), (np.array([0, 1, 1, 0]), np.ones((3, 2)))]
    read = read_meta_layout(theirs(tmp_path / "exp", levels, steps=1))
    assert read.n_clusters == (4, 3) and read.sizes(1).tolist() == [2, 0, 0, 3] and read.sizes(2).tolist() == [5, 0, 0]
    out = write_meta_layout(read, tmp_path / "again", pickled_clusters=True)
    same(read, read_meta_layout(out), distances=False)


@pytest.mark.parametrize("equal_sizes", [False, True])
def test_a_pickle_is_only_read_by_name(tmp_path, equal_sizes):
    """A first level made in two steps has only real centroids.npy and sorted_clusters.npy, and a folder pre_clusters."""
    assignment = np.array([0, 1, 0, 1, 2, 2] if equal_sizes else [0, 1, 1, 1, 2, 2])
    centroids = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    level = tmp_path / "exp" / "level1"
    (level / "pre_clusters" / "step0").mkdir(parents=True)
    np.save(level / "centroids.npy", centroids)
    members = [np.flatnonzero(assignment == c)[::-1] for c in range(3)]
    clusters = np.array(members, dtype=object) if equal_sizes else np.empty(3, object)  # bug B1: a matrix of objects
    if not equal_sizes:
        clusters[:] = members
    np.save(level / "sorted_clusters.npy", clusters, allow_pickle=True)
    with pytest.raises(DataError, match="allow_pickle=True"):
        read_meta_layout(tmp_path / "exp")
    with pytest.warns(UserWarning, match="pickle"):
        read = read_meta_layout(tmp_path / "exp", allow_pickle=True)
    assert read.levels[0].assignment.tolist() == assignment.tolist()


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_no_code_of_a_file_is_run(h, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = write_meta_layout(h, tmp_path / "exp")
    step = out / "level1" / "step0"
    for name in ("cluster_assignment.npy", "centroids.npy", "sorted_clusters.npy"):
        np.save(step / name, np.array([Bomb()], object), allow_pickle=True)
        with pytest.raises(DataError):
            read_meta_layout(out)
    (step / "cluster_assignment.npy").unlink()
    with pytest.raises(DataError):
        read_meta_layout(out)
    np.save("selection.npy", np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError):
        read_meta_selection("selection.npy")
    assert not Path("exploded").exists()


def test_plain_files_are_preferred_to_pickles(h, tmp_path):
    out = write_meta_layout(h, tmp_path / "exp", pickled_clusters=True)
    np.save(out / "level1" / "step0" / "sorted_clusters.npy", np.array([Bomb()], object), allow_pickle=True)
    same(h, read_meta_layout(out, allow_pickle=True), distances=False)


def test_their_sampling_script_can_read_ours(tmp_path):
    """It wants a vector of int64 arrays, closest first, also when all clusters are of equal size (bug B1)."""
    h = Hierarchy.from_assignments(
        [[0, 1, 0, 1, 2, 2]], distances=[[2, 1, 1, 2, 3, 4]], centroids=[np.zeros((3, 2), np.float32)]
    )
    out = write_meta_layout(h, tmp_path / "exp", pickled_clusters=True)
    clusters = np.load(out / "level1" / "sorted_clusters.npy", allow_pickle=True)
    assert clusters.shape == (3,) and [c.tolist() for c in clusters] == [[2, 0], [1, 3], [4, 5]]
    assert all(c.dtype == np.int64 for c in clusters)


@pytest.mark.parametrize("damage", ["no level", "unfinished", "short", "labels", "float", "centroids", "levels", "nan"])
def test_damage(h, tmp_path, damage):
    out = write_meta_layout(h, tmp_path / "exp")
    step = out / "level2" / "step0"
    labels = np.load(step / "cluster_assignment.npy")
    if damage == "no level":
        shutil.rmtree(out / "level1")
    elif damage == "unfinished":
        (out / "level2" / "step1").mkdir()
    elif damage == "short":
        (step / "cluster_assignment.npy").write_bytes(b"\x93NUMPY")
    elif damage == "centroids":
        np.save(step / "centroids.npy", np.zeros(6))
    elif damage == "nan":
        np.save(step / "centroids.npy", np.full((6, 4), np.nan))
    else:
        changed = {"labels": labels + 6, "float": labels + 0.5, "levels": labels[:-1]}[damage]
        np.save(step / "cluster_assignment.npy", changed)
    with pytest.raises(DataError) as error:
        read_meta_layout(out)
    assert "\n" not in str(error.value)


def test_refusals(h, tmp_path):
    out = write_meta_layout(h, tmp_path / "exp")
    bare = Hierarchy.from_assignments([[0, 1]])
    for field, call in (
        ("path", lambda: write_meta_layout(h, out)),
        ("hierarchy", lambda: write_meta_layout(bare, tmp_path / "bare")),
        ("embeddings", lambda: read_meta_layout(out, embeddings=X[:-1])),
        ("embeddings", lambda: read_meta_layout(out, embeddings=X[:, :3])),
        ("rows", lambda: write_meta_selection([0.5], tmp_path, n_levels=2)),
        ("rows", lambda: write_meta_selection([-1], tmp_path, n_levels=2)),
        ("sample.within", lambda: write_meta_selection([1], tmp_path, n_levels=2, within="r")),
    ):
        with pytest.raises(ConfigError) as error:
            call()
        assert error.value.field == field
    assert sorted(file.name for file in tmp_path.iterdir()) == ["exp"], "nothing was written"


def test_selection_file(h, tmp_path):
    rows = h.sample(60, within="closest", max_repeats=2)
    file = write_meta_selection(rows, tmp_path, n_levels=3, within="closest", max_repeats=2)
    assert file.relative_to(tmp_path).as_posix() == "curated_datasets/3c_mul2_60_balanced_selection.npy"
    assert np.array_equal(read_meta_selection(file), rows) and read_meta_selection(file).dtype == np.int64
    np.save(tmp_path / "theirs.npy", rows[::-1])  # in tree order, not ascending
    assert np.array_equal(read_meta_selection(tmp_path / "theirs.npy"), rows[::-1])
    with pytest.raises(ConfigError, match="exists"):
        write_meta_selection(rows, tmp_path, n_levels=3, within="closest", max_repeats=2)
    for bad in (np.zeros((2, 2), np.int64), np.array([0.5]), np.array([-1])):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(DataError):
            read_meta_selection(tmp_path / "bad.npy")
