"""Several processes, and fits that were killed: the same bytes as one process that was not."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from distributed_fit import SMALL, blobs, contents, fit_in_processes, reports

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError, DataError
from strata.curation.kmeans.checkpoints import Checkpoints
from strata.curation.kmeans.group import BLOCK, Group

CASES = {
    "plain": {},
    "cosine": {"init": "random", "metric": "cosine", "resample_by": "random"},
    "two_step": {"init": "scalable", "n_splits": (2, 1)},
    "sample": {"fit_fraction": 0.5, "algorithm": "accelerated", "n_clusters": (7, 3), "resample_size": 20},
    "double": {"dtype": "float64", "init": "k-means++", "memory": "1MB"},
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert fit_in_processes(1, folder, {name: (blobs(), case) for name, case in CASES.items()}) == [0]
    return folder


@pytest.mark.parametrize(("world", "threads"), [(1, 2), (2, 1), (4, 1), pytest.param(7, 1, marks=pytest.mark.slow)])
def test_same_bytes_for_any_number_of_processes_and_threads(alone, tmp_path, world, threads):
    """Blocks of 64 rows, so that resampled rows and level 2 are spread, too."""
    names = [*CASES] if world in (2, 7) else ["plain"]
    cases = {name: (blobs(), CASES[name]) for name in names}
    assert fit_in_processes(world, tmp_path, cases, threads=threads) == [0] * world
    assert contents(tmp_path) == {file: data for file, data in contents(alone).items() if file.split("/")[0] in names}
    for name in names:
        assert reports(tmp_path, name) == reports(alone, name), "every process knows the inertias of all rows"


@pytest.mark.parametrize("world", [2, 4])
def test_shared_centroids_give_the_bytes_of_whole_ones(alone, tmp_path, world):
    """Each process holds k / p centroids: no table, sums or start of more, and the same bytes in the end."""
    names = [*CASES] if world == 2 else ["plain"]
    cases = {name: (blobs(), CASES[name] | {"shard_centroids": True}) for name in names}
    largest = {"two_step": 140, "sample": 7}  # clusters of level 1
    assert fit_in_processes(world, tmp_path, cases, watch=True) == [0] * world
    assert contents(tmp_path) == {file: data for file, data in contents(alone).items() if file.split("/")[0] in names}
    for name in names:
        assert reports(tmp_path, name) == reports(alone, name)
        for rank in range(world):
            held = json.loads((tmp_path / f"{name}-{rank}.held").read_text())
            assert 1 <= held <= -(-largest.get(name, 70) // world), "rows of the largest table of centroids"


def test_shared_centroids_on_one_process(alone, tmp_path):
    model = HierarchicalKMeans(**SMALL, shard_centroids=True).fit(blobs())
    model.save(tmp_path / "plain")
    for name in ("level1/assignment.npy", "level1/centroids.npy", "level2/assignment.npy"):
        assert np.array_equal(np.load(tmp_path / "plain" / name), np.load(alone / "plain" / name))
    with pytest.raises(ConfigError, match=r"hierarchy\.shard_centroids: 3"):
        HierarchicalKMeans(**SMALL, shard_centroids=3).fit(blobs())


def test_more_processes_than_blocks(tmp_path):
    cases = {"few": (blobs(150), {"n_clusters": (10, 3)}), "one": (blobs(50), {"n_clusters": (10, 3)})}
    for world in (1, 3):
        assert fit_in_processes(world, tmp_path / str(world), cases) == [0] * world
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_bad_rows_of_one_process_end_all(tmp_path):
    X = blobs()
    X[990, 3] = np.nan
    assert fit_in_processes(2, tmp_path, {"bad": (X, {})}) == [1, 1]


def test_no_tree_of_spread_rows(monkeypatch):
    model = HierarchicalKMeans((5,), n_resamples=0, verbose=False).fit(blobs(100))
    assert model.hierarchy_.n == 100 and model.rows_ == (0, 100)
    del model.hierarchy_
    model._group = Group(0, 2)
    with pytest.raises(AttributeError, match="spread over 2 processes; call save"):
        _ = model.hierarchy_
    assert len(model.predict(blobs(10))) == 10


def test_save_is_that_of_the_hierarchy(tmp_path):
    model = HierarchicalKMeans(**SMALL).fit(blobs())
    model.save(tmp_path / "ours", key="k", config={"a": 1})
    model.hierarchy_.save(tmp_path / "theirs", key="k", config={"a": 1})
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    assert Hierarchy.load(tmp_path / "ours").n == 1000
    with pytest.raises(DataError, match="exists already"):
        model.save(tmp_path / "ours")


def test_shares_are_whole_blocks():
    for n in (1, BLOCK, BLOCK + 1, 10 * BLOCK - 5):
        for size in (1, 2, 3, 4, 16):
            spans = [Group(rank, size).span(n) for rank in range(size)]
            assert spans[0][0] == 0 and spans[-1][1] == n
            assert all(before[1] == after[0] for before, after in zip(spans, spans[1:]))
            assert all(first % BLOCK == 0 for first, last in spans if first < last)
            sizes = [-(-(last - first) // BLOCK) for first, last in spans]
            assert max(sizes) - min(sizes) <= 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("case", ["plain", "two_step", "sample"])
def test_a_fit_goes_on_after_any_checkpoint(alone, tmp_path, monkeypatch, case):
    """Interrupted at each of its checkpoints in turn: every state is gone on from, to the same result."""
    save, left = Checkpoints.save, [0]

    def save_and_die(self, *args):
        save(self, *args)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_and_die)
    settings = SMALL | CASES[case] | {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    whole = HierarchicalKMeans(**(settings | {"checkpoint_dir": None})).fit(blobs())
    deaths = 0
    while True:
        left[0] = 1 + deaths % 2
        try:
            model = HierarchicalKMeans(**settings).fit(blobs())
            break
        except Killed:
            deaths += 1
    assert deaths > 5, "the fit has many steps, and none is done twice for ever"
    for ours, expected in zip(model.levels_, whole.levels_, strict=True):
        assert ours.history == expected.history and ours.inertias == expected.inertias
        assert ours.n_iter == expected.n_iter
        assert ours.centroids.tobytes() == expected.centroids.tobytes()
        assert ours.labels.tobytes() == expected.labels.tobytes()


def test_checkpoints_are_keyed_by_content(tmp_path):
    def fit(X=None, **settings):
        X = blobs() if X is None else X
        HierarchicalKMeans(**(SMALL | {"checkpoint_dir": tmp_path} | settings)).fit(X)
        return len(list(tmp_path.iterdir()))

    assert fit() == 1 and fit() == 1 and fit(verbose=False, memory="1GB", checkpoint_seconds=5.0) == 1
    assert fit(n_iter=11) == 2 and fit(random_state=1) == 3
    other = blobs()
    other[[5, 6]] = other[[6, 5]]  # the same rows in another order
    assert fit(other) == 4
    names = {file.name for file in tmp_path.rglob("*.npz")}
    assert names == {"level1.npz", "level2.npz"}, "states inside a run are gone when it is done"


def test_bad_checkpoints_are_named(tmp_path):
    settings = SMALL | {"checkpoint_dir": tmp_path}
    HierarchicalKMeans(**settings).fit(blobs())
    file = next(tmp_path.glob("*/level1.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="level1.npz cannot be read.*remove it"):
        HierarchicalKMeans(**settings).fit(blobs())
    with pytest.raises(ConfigError, match=r"hierarchy\.checkpoint_dir.*seed"):
        HierarchicalKMeans(**(settings | {"random_state": None})).fit(blobs())
    with pytest.raises(ConfigError, match=r"hierarchy\.checkpoint_seconds"):
        HierarchicalKMeans(**(settings | {"checkpoint_seconds": -1})).fit(blobs())


def kill_and_restart(tmp_path, number, kill, shared):
    """One of two processes dies by SIGKILL at a message (or, on process 0, a checkpoint)."""
    settings = {"checkpoint_dir": tmp_path / f"states{number}", "checkpoint_seconds": 0, "shard_centroids": shared}
    case = {"plain": (blobs(), settings)}
    folder = tmp_path / str(number)
    codes = fit_in_processes(2, folder, case, kill=kill)
    assert codes[kill[0]] == -signal.SIGKILL and codes[1 - kill[0]] != 0, codes
    states = list((tmp_path / f"states{number}").rglob("*.npz"))
    world = 1 + number % 3
    assert fit_in_processes(world, folder, case) == [0] * world
    return contents(folder), states


@pytest.mark.parametrize("shared", [False, True])
def test_killed_and_restarted(alone, tmp_path, shared):
    found, states = kill_and_restart(tmp_path, 1, (0, -6), shared)
    assert found == {name: data for name, data in contents(alone).items() if name.startswith("plain/")}
    assert states, "it had something to go on from"


@pytest.mark.slow
def test_killed_and_restarted_ten_times(alone, tmp_path):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    expected = {name: data for name, data in contents(alone).items() if name.startswith("plain/")}
    for number in range(10):
        kill = (int(rng.integers(2)), int(rng.integers(20, 420))) if number % 2 else (0, -int(rng.integers(1, 20)))
        assert kill_and_restart(tmp_path, number, kill, number % 4 < 2)[0] == expected, kill


@pytest.mark.slow
def test_launched_by_torchrun():
    """Lightning Fabric sets up the processes; the benchmark itself compares the bytes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += [
        "strata.experiments.benchmarks.distributed",
        "--rows",
        "140000",
        "--dim",
        "8",
        "--clusters",
        "20",
        "--repeats",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "identical bytes" in done.stdout and "efficiency" in done.stdout
