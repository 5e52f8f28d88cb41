"""`strata cluster`, `sample`, `convert` and `update`: hierarchies made, drawn from, handed over and grown by command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.artifact import read_manifest
from strata.curation.store import EmbeddingStore
from strata.experiments.cli import dispatch

N = 400


def vectors(n: int, seed: int) -> np.ndarray:
    """Three quarters of the rows in one lump."""
    rng = np.random.default_rng(seed)
    lump = np.where(np.arange(n) % 4 == 0, rng.integers(1, 9, n), 0)
    return (rng.normal(size=(n, 6)) + 12 * np.eye(9, 6)[lump] * lump[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    np.save(root / "a.npy", vectors(N, 0))
    np.save(root / "b.npy", vectors(100, 1))
    np.save(root / "c.npy", vectors(50, 2))
    np.save(root / "wide.npy", np.zeros((5, 7), np.float32))
    np.save(root / "flat.npy", np.zeros(5, np.float32))
    EmbeddingStore.from_array(
        root / "store", np.load(root / "a.npy"), ids=[f"r{i}" for i in range(N)], labels=np.arange(N) % 5
    )
    assert run("cluster", f"embeddings={root}/a.npy", "levels=[40,8]", f"out={root}/tree") == 0
    return root


def run(command: str, *overrides: str) -> int:
    return dispatch([command, "wandb.mode=disabled", "runner.workers=0", *overrides])


def curated(data: Path, tmp_path: Path, *overrides: str) -> Path:
    out = tmp_path / "old"
    assert run("curate", f"paths.runs={tmp_path}/runs", f"out={out}", "atlas=false", *overrides) == 0
    return out


def test_cluster_is_the_fit(data: Path, capsys: pytest.CaptureFixture[str]):
    tree = Hierarchy.load(data / "tree")
    settings = read_manifest(data / "tree")["config"]["hierarchy"]
    expected = HierarchicalKMeans(**settings).fit(np.load(data / "a.npy")).hierarchy_
    assert tree.n_clusters == (40, 8) and settings["shard_centroids"] == "auto"
    for ours, wanted in zip(tree.levels, expected.levels, strict=True):
        assert np.array_equal(ours.assignment, wanted.assignment)
    assert not (data / "tree.checkpoints").exists()
    assert run("cluster", f"embeddings={data}/store", "target=50", f"out={data}/chosen") == 0
    said = capsys.readouterr().out
    assert "400 rows on 1 process\nlevel 1:" in said and f"hierarchy  {data}/chosen" in said
    assert read_manifest(data / "chosen")["inputs"] == {}, "a store without a key"


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["auto", "true"])
def test_cluster_by_torchrun(data: Path, tmp_path: Path, shard: str):
    """200,000 rows are four blocks on two processes: the bytes of one."""
    np.save(tmp_path / "x.npy", vectors(200_000, 3))
    settings = [f"embeddings={tmp_path}/x.npy", "levels=[300,20]", "hierarchy.n_iter=3", f"shard_centroids={shard}"]
    assert run("cluster", *settings, f"out={tmp_path}/one") == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["strata.experiments.cli", "cluster", *settings, f"out={tmp_path}/two"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("200,000 rows on 2 processes") == 1
    for file in [file for file in (tmp_path / "one").rglob("*.npy")]:
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes(), file


def test_sample(data: Path, tmp_path: Path):
    tree = Hierarchy.load(data / "tree")
    given = [f"tree={data}/tree", "target=60", "seed=3", "within=closest"]
    assert run("sample", *given, f"embeddings={data}/store", f"out={tmp_path}/s", f"meta_selection={tmp_path}/m") == 0
    rows = tree.sample(60, within="closest", random_state=3)
    assert np.array_equal(np.load(tmp_path / "s" / "indices.npy"), rows)
    table = pq.read_table(tmp_path / "s" / "subset.parquet").to_pydict()
    assert table["id"] == [f"r{row}" for row in rows] and table["label"] == (rows % 5).tolist()
    selection = tmp_path / "m" / "curated_datasets" / "2c_mul1_60_balanced_selection.npy"
    assert np.array_equal(np.load(selection, allow_pickle=False), rows)
    assert run("sample", *given, f"out={tmp_path}/bare") == 0
    assert pq.read_table(tmp_path / "bare" / "subset.parquet")["id"].to_pylist() == [str(row) for row in rows]


def test_meta_layout_there_and_back(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    theirs, back = tmp_path / "exp", tmp_path / "back"
    assert run("convert", f"tree={data}/tree", "to=meta", "pickled_clusters=true", f"out={theirs}") == 0
    assert (theirs / "level2" / "sorted_clusters.npy").is_file()
    rows = f"embeddings={data}/a.npy"
    assert run("convert", f"tree={theirs}", "layout=meta", rows, f"out={back}") == 0
    for ours, again in zip(Hierarchy.load(data / "tree").levels, Hierarchy.load(back).levels, strict=True):
        assert np.array_equal(ours.assignment, again.assignment) and np.array_equal(ours.distance, again.distance)
    given = ["target=50", "within=furthest"]
    assert run("sample", f"tree={theirs}", "layout=meta", rows, *given, f"out={tmp_path}/theirs") == 0
    assert run("sample", f"tree={data}/tree", *given, f"out={tmp_path}/ours") == 0
    assert np.array_equal(np.load(tmp_path / "theirs/indices.npy"), np.load(tmp_path / "ours/indices.npy"))
    for level in (1, 2):
        (theirs / f"level{level}/step0/cluster_assignment.npy").unlink()
    capfd.readouterr()
    assert run("convert", f"tree={theirs}", "layout=meta", f"out={tmp_path}/no") == 2
    assert "a pickle" in (said := capfd.readouterr().err) and "allow_pickle=true" in said
    with pytest.warns(UserWarning, match="can run any code"):
        assert run("convert", f"tree={theirs}", "layout=meta", "allow_pickle=true", f"out={tmp_path}/yes") == 0
    assert np.array_equal(Hierarchy.load(tmp_path / "yes").labels(2), Hierarchy.load(back).labels(2))


def test_update_is_the_smallest_change(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = curated(data, tmp_path, f"data={data}/a.npy", "size=80", "levels=[40,8]")
    where = f"paths.runs={tmp_path}/runs"
    capsys.readouterr()
    assert run("update", where, f"subset={old}", f"data={data}/b.npy", f"out={tmp_path}/new") == 0
    tree = Hierarchy.load(next((tmp_path / "runs/store/cluster").iterdir()))
    grown = tree.extend(*tree.assign(np.load(data / "b.npy"), metric="euclidean"))
    before = np.load(old / "indices.npy")
    expected = grown.update(before, 80)
    rows = np.load(tmp_path / "new" / "indices.npy")
    assert np.array_equal(rows, expected.rows) and rows.max() >= N
    changes = pq.read_table(tmp_path / "new" / "changes.parquet").to_pydict()
    dropped, added = ([row for row, how in zip(changes["row"], changes["change"]) if how == what]
                      for what in ("dropped", "added"))  # fmt: skip
    assert set(before) - set(dropped) | set(added) == set(rows) and len(dropped) == len(added) < 40
    assert f"{80 - len(added)} rows kept, {len(dropped)} dropped, {len(added)} added" in capsys.readouterr().out
    # once more, and larger
    assert run("update", where, f"subset={tmp_path}/new", f"data={data}/c.npy", "size=90", f"out={tmp_path}/third") == 0
    grown = grown.extend(*grown.assign(np.load(data / "c.npy"), metric="euclidean"))
    assert np.array_equal(np.load(tmp_path / "third/indices.npy"), grown.update(rows, 90).rows)
    assert read_manifest(tmp_path / "third")["pool_size"] == N + 150


def test_update_of_texts_with_a_bad_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The new texts go through the encoder as it was fitted on the old ones; rows number all lines."""
    rng = np.random.default_rng(0)
    words = [["sea", "wave", "tide", "salt", "ship", "harbor"], ["loop", "array", "null", "type", "pointer", "string"]]

    def write(name: str, n: int, bad: int) -> None:
        lines = [
            json.dumps({"text": " ".join(rng.choice(words[i % 4 == 0], 12)), "id": f"{name}{i}"}) for i in range(n)
        ]
        lines[bad] = lines[bad][:15]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))

    write("a", 120, 5)
    write("b", 40, 0)
    old = curated(tmp_path, tmp_path, f"data={tmp_path}/a.jsonl", "size=30", "on_error=skip")
    given = [f"paths.runs={tmp_path}/runs", f"subset={old}", f"data={tmp_path}/b.jsonl", "size=150", "on_error=skip"]
    assert run("update", *given, f"out={tmp_path}/new") == 0, capfd.readouterr().err
    table = pq.read_table(tmp_path / "new" / "subset.parquet").to_pydict()
    assert table["id"] == [f"a{row}" if row < 120 else f"b{row - 120}" for row in table["row"]]
    assert 5 not in table["row"] and 120 not in table["row"] and max(table["row"]) > 120
    assert np.array_equal(np.load(tmp_path / "new" / "indices.npy"), table["row"])
    stores = [read_manifest(file.parent) for file in (tmp_path / "runs/store/embed").glob("*/manifest.json")]
    assert len(stores) == 2 and stores[0]["encoder_state"] == stores[1]["encoder_state"] != {}


REFUSED = {
    "cluster: no rows": ("cluster", ["out=o"], ["embeddings: not given"]),
    "cluster: no such rows": ("cluster", ["out=o", "embeddings=nowhere"], ["embeddings:", "nowhere"]),
    "cluster: flat rows": ("cluster", ["out=o", "embeddings={data}/flat.npy"], ["embeddings:", "(5,)", "[n, d]"]),
    "cluster: levels": ("cluster", ["out=o", "embeddings={data}/a.npy", "levels=[4,40]"], ["levels:"]),
    "cluster: sharding": (
        "cluster", ["out=o", "embeddings={data}/a.npy", "shard_centroids=some"], ["hierarchy.shard_centroids:"]
    ),
    "cluster: out": ("cluster", ["embeddings={data}/a.npy"], ["out: not given"]),
    "sample: no tree": ("sample", ["out=o", "target=3"], ["tree:"]),
    "sample: too many": ("sample", ["out=o", "target=401", "tree={data}/tree"], ["size:", "401"]),
    "sample: no tree there": ("sample", ["out=o", "target=4", "tree={data}"], ["tree:", "manifest"]),
    "sample: layout": ("sample", ["out=o", "target=4", "tree={data}/tree", "layout=x"], ["layout:", "meta"]),
    "sample: other rows": (
        "sample", ["out=o", "target=4", "tree={data}/tree", "embeddings={data}/b.npy"], ["embeddings: 100"]
    ),
    "convert: no level": ("convert", ["out=o", "tree={data}", "layout=meta"], ["tree:", "level1"]),
    "convert: wide rows": (
        "convert", ["out=o", "tree={data}/tree", "to=strata", "pickled_clusters=true"], ["pickled_clusters:"]
    ),
    "update: no subset": ("update", ["out=o", "data={data}/b.npy"], ["subset: not given"]),
    "update: a tree": ("update", ["out=o", "data={data}/b.npy", "subset={data}/tree"], ["subset:", "'subset'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
):
    command, overrides, expected = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    assert run(command, *(item.format(data=data) for item in overrides)) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    for word in expected:
        assert word in line, line
    assert not any(tmp_path.iterdir()), "something was written"


def test_update_refuses_what_does_not_fit(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    old = curated(data, tmp_path, f"data={data}/a.npy", "size=20", "sampler=random")
    where = [f"paths.runs={tmp_path}/runs", f"out={tmp_path}/new"]
    assert run("update", *where, f"subset={old}", f"data={data}/b.npy") == 2
    assert "subset: drawn by RandomRows" in capfd.readouterr().err
    assert run("curate", *where[:1], f"out={tmp_path}/h", f"data={data}/a.npy", "size=20", "atlas=false") == 0
    assert run("update", *where, f"subset={tmp_path}/h", f"data={data}/wide.npy") == 2
    assert "7 features" in capfd.readouterr().err
    assert run("update", *where, f"subset={tmp_path}/h", f"data={data}/b.npy", "size=501") == 2
    assert "size: 501" in capfd.readouterr().err
    assert run("update", f"paths.runs={tmp_path}/other", where[1], f"subset={tmp_path}/h", f"data={data}/b.npy") == 2
    assert "subset:" in (said := capfd.readouterr().err) and "runs folder" in said
    assert not (tmp_path / "new").exists()
