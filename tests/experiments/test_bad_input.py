"""Bad input: one line that names the field and the fix, exit code 2, nothing written."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow import arguments

from strata.experiments.cli import dispatch

CASES = {
    "unknown experiment": (["experiment=nothing_like_it"], ["experiment", "nothing_like_it", "quickstart"]),
    "typo in an override": (["ssl.stepz=3"], ["ssl.stepz", "no such setting"]),
    "typo in a group": (["pol=digits"], ["pol", "no such"]),
    "wrong type": (["ssl.steps=many"], ["ssl.steps", "many"]),
    "typo in an arm": (["+arms.flat.hierarchy.n_cluster=[4]"], ["arms.flat.hierarchy.n_cluster", "no such setting"]),
    "missing pool path": (["pool=folder", "pool.path=/not/there"], ["pool.path", "/not/there"]),
    "target larger than the pool": (["size=5000"], ["size", "5,000", "at most"]),
    "target of zero": (["size=0"], ["size"]),
    "n_clusters not decreasing": (["hierarchy.n_clusters=[20,20,8]"], ["hierarchy.n_clusters", "fewer"]),
    "n_clusters larger than n": (["hierarchy.n_clusters=[5000,20,8]"], ["hierarchy.n_clusters", "5"]),
    "unknown hierarchy setting": (["+hierarchy.k=3"], ["hierarchy.k", "no such setting"]),
    "negative resamplings": (["hierarchy.n_resamples=-1"], ["hierarchy.n_resamples"]),
    "unknown init": (["hierarchy.init=foo"], ["hierarchy.init", "foo"]),
    "unknown metric": (["hierarchy.metric=foo"], ["hierarchy.metric", "foo"]),
    "no iterations": (["hierarchy.n_iter=0"], ["hierarchy.n_iter"]),
    "size no number": (["size=many"], ["size", "many"]),
    "size no whole number": (["size=10.5"], ["size", "10.5"]),
    "one seed": (["seeds=3"], ["seeds", "[0,1,2]"]),
    "seed no number": (["seeds=[true]"], ["seeds"]),
    "seed too large": (["seeds=[99999999999999]"], ["seeds"]),
    "removed setting": (["~seeds"], ["seeds"]),
    "removed group": (["~pool"], ["pool"]),
    "arm no group": (["arms.flat=3"], ["arms.flat"]),
    "protocol nothing": (["protocols.knn=null"], ["protocols.knn"]),
    "name with a slash": (["name=../x"], ["name"]),
    "unknown dtype": (["embed.dtype=int8"], ["embed.dtype", "int8"]),
    "batch of nothing": (["embed.batch_size=0"], ["embed.batch_size"]),
    "unknown on_error": (["on_error=maybe"], ["on_error", "maybe"]),
    "no threads": (["runner.threads=0"], ["runner.threads"]),
    "unknown device": (["runner.device=abacus"], ["runner.device", "abacus"]),
    "unknown wandb mode": (["wandb.mode=nonsense"], ["wandb.mode", "nonsense"]),
    "no seeds": (["seeds=[]"], ["seeds"]),
    "same seed twice": (["seeds=[1,1]"], ["seeds"]),
    "bad worker count": (["runner.workers=some"], ["runner.workers", "some"]),
    "bad protocol option": (["protocols.knn.temperature=-1"], ["temperature"]),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    overrides, expected = CASES[name]
    refused(overrides, expected, tmp_path, monkeypatch, capfd)


def refused(overrides, expected, tmp_path, monkeypatch, capfd, command="run"):
    place = tmp_path / "cwd"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("STRATA_RUNS", str(place / "runs"))
    given = arguments(command, *overrides)
    if any(o.startswith("experiment=") for o in overrides):
        given.remove("experiment=tiny")
    code = dispatch(given)
    err = capfd.readouterr().err.strip()
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    for word in expected:
        assert word in err, err
    assert not any(place.iterdir()), "something was written"


def test_empty_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "images").mkdir()
    refused(["pool=folder", f"pool.path={tmp_path}/images"], ["pool"], tmp_path, monkeypatch, capfd)


def test_empty_parquet_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "set").mkdir()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    empty = pa.table({"image": pa.array([], image), "label": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "set" / "train-00000-of-00001.parquet")
    override = ["pool=parquet", f"pool.path={tmp_path}/set", "pool.split=train"]
    refused(override, ["pool"], tmp_path, monkeypatch, capfd)


def test_unknown_command(capfd: pytest.CaptureFixture[str]):
    assert dispatch(["rum"]) == 2
    assert "rum" in capfd.readouterr().err


def test_nan_in_embeddings(tmp_path: Path):
    """NaN cannot get into a store, and a plain array with NaN is refused by the clustering: rows are named."""
    from strata.curation import EmbeddingStore, HierarchicalKMeans
    from strata.curation.errors import DataError

    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    rows[17, 2] = np.nan
    with pytest.raises(DataError, match="17"):
        EmbeddingStore.from_array(tmp_path / "store", rows)
    with pytest.raises(DataError, match="17"):
        HierarchicalKMeans(n_clusters=(5,), verbose=False).fit(rows)
    assert not any(tmp_path.iterdir())
