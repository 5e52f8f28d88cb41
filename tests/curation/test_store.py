import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.store import EmbeddingStore


def rows(n=23, d=5, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    X = rows()
    return X, EmbeddingStore.from_array(tmp_path_factory.mktemp("s") / "e", X, shard_rows=7)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shard_rows", [1, 7, 23, 100])
def test_round_trip(tmp_path, dtype, shard_rows):
    X, labels = rows(), np.arange(23) % 3 - 1
    ids = [f"item/{i}.jpg" for i in range(23)]
    EmbeddingStore.from_array(
        tmp_path / "e", X, ids, labels, dtype=dtype, shard_rows=shard_rows, label_names=["a", "b"],
        encoder={"name": "mine", "normalization": "l2", "transform": {"size": [8, 8]}}, pool={"fingerprint": "f00"},
        key="k1", inputs={"pool": "p1"},
    )  # fmt: skip
    store = EmbeddingStore.open(tmp_path / "e")
    assert (len(store), store.shape, store.dtype) == (23, (23, 5), np.dtype(dtype))
    assert np.array_equal(store.to_numpy(), X.astype(dtype))
    assert np.array_equal(np.asarray(store), X.astype(dtype))
    assert np.asarray(store, dtype=np.float64).dtype == np.float64
    assert store.ids == ids
    assert np.array_equal(store.labels, labels)
    store.check_finite()
    assert len(list((tmp_path / "e").glob("shard-*.npy"))) == -(-23 // shard_rows)
    manifest = store.manifest
    assert manifest["kind"] == "embeddings" and manifest["key"] == "k1" and manifest["inputs"] == {"pool": "p1"}
    assert (manifest["n"], manifest["dim"], manifest["dtype"]) == (23, 5, dtype)
    assert manifest["pool"]["fingerprint"] == "f00" and manifest["normalization"] == "l2"
    assert manifest["transform"] == {"size": [8, 8]} and manifest["label_names"] == ["a", "b"]
    table = pq.read_table(tmp_path / "e" / "items.parquet")
    assert table.column_names == ["row", "id", "label"] and table["row"].to_pylist() == list(range(23))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 23), st.integers(0, 23))
def test_any_block_equals_the_slice(sharded, a, b):
    X, store = sharded
    start, stop = sorted((a, b))
    assert np.array_equal(store.read(start, stop), X[start:stop])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 22), max_size=40))
def test_any_rows_equal_the_index(sharded, wanted):
    X, store = sharded
    assert np.array_equal(store.take(np.array(wanted, np.int64)), X[wanted] if wanted else X[:0])


@pytest.mark.parametrize("size", [1, 5, 7, 22, 23, 1000])
def test_blocks_cover_all_rows(sharded, size):
    X, store = sharded
    blocks = list(store.iter_blocks(size))
    assert max(map(len, blocks)) <= size and np.array_equal(np.concatenate(blocks), X)


def test_rows_outside_are_refused(sharded):
    _, store = sharded
    for start, stop in [(-1, 2), (3, 2), (0, 24)]:
        with pytest.raises(IndexError):
            store.read(start, stop)
    for bad in ([-1], [23]):
        with pytest.raises(IndexError):
            store.take(np.array(bad))


def test_reads_within_a_shard_are_views_of_the_file(sharded):
    _, store = sharded
    view = store.read(8, 13)
    assert isinstance(view, np.memmap) and not view.flags.writeable
    assert store.to_numpy().flags.writeable
    with pytest.raises(ValueError):
        np.array(store, copy=False)


def test_defaults_of_a_plain_array(tmp_path):
    np.save(tmp_path / "mine.npy", rows(dtype=np.float64))
    store = EmbeddingStore.from_array(tmp_path / "e", tmp_path / "mine.npy")
    assert store.dtype == np.float32 and store.labels is None and store.ids[-1] == "22"
    tensor = torch.from_numpy(rows()).to(torch.bfloat16)
    assert np.array_equal(EmbeddingStore.from_array(tmp_path / "t", tensor).to_numpy(), tensor.float().numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_and_nothing_is_left(tmp_path, bad):
    X = rows()
    X[[9, 11], [0, 4]] = bad
    with pytest.raises(DataError, match=r"rows 9 \('id9'\), 11 \('id11'\) hold NaN or infinite"):
        EmbeddingStore.from_array(tmp_path / "e", X, [f"id{i}" for i in range(23)], shard_rows=4)
    assert list(tmp_path.iterdir()) == []


def test_float16_overflow_is_told_apart_from_infinity(tmp_path):
    X = rows()
    X[3, 3] = 1e5
    with pytest.raises(DataError, match="too large for float16; store them with dtype=float32"):
        EmbeddingStore.from_array(tmp_path / "e", X, dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_check_finite_finds_what_was_changed_on_disk(tmp_path):
    store = EmbeddingStore.from_array(tmp_path / "e", rows(), shard_rows=7)
    shard = np.load(tmp_path / "e" / "shard-00002.npy")
    shard[1, 1] = np.nan
    np.save(tmp_path / "e" / "shard-00002.npy", shard)
    with pytest.raises(DataError, match=r"rows 15 \('15'\)"):
        EmbeddingStore.open(tmp_path / "e").check_finite(rows=4)
    assert len(store) == 23


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"X": np.zeros(3)}, "X"),
        ({"X": np.zeros((0, 3))}, "X"),
        ({"X": np.array([["a"]])}, "X"),
        ({"ids": ["a"]}, "ids"),
        ({"labels": [0]}, "labels"),
        ({"labels": [0.5, 1.0]}, "labels"),
        ({"labels": [-2, 1]}, "labels"),
        ({"dtype": "float64"}, "dtype"),
        ({"shard_rows": 0}, "shard_rows"),
    ],
)
def test_bad_settings_name_their_field(tmp_path, change, field):
    with pytest.raises(ConfigError) as caught:
        EmbeddingStore.from_array(tmp_path / "e", **{"X": np.ones((2, 3)), **change})
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="not unique"):
        EmbeddingStore.from_array(tmp_path / "e", np.ones((2, 3)), ids=["a", "a"])
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        EmbeddingStore.from_array(tmp_path / "e", tmp_path / "pickled.npy")
    with pytest.raises(DataError, match="not a finished artifact"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "wider", "count", "items"])
def test_a_damaged_store_says_which_file(tmp_path, damage):
    store = EmbeddingStore.from_array(tmp_path / "e", rows(), shard_rows=7)
    shard = store.path / "shard-00001.npy"
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-8])
    elif damage == "wider":
        np.save(shard, rows(7, 6))
    elif damage == "items":
        pq.write_table(pq.read_table(store.path / "items.parquet").slice(0, 5), store.path / "items.parquet")
    else:
        manifest = read_manifest(store.path)
        (store.path / "manifest.json").write_text(json.dumps({**manifest, "n": 99}))
    with pytest.raises(DataError, match=r"shard-00001\.npy|items\.parquet|manifest says 99"):
        _ = EmbeddingStore.open(store.path).ids
