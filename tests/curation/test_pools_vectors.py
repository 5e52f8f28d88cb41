"""Embeddings as .npy: a pool, and a store that links them."""

import os
import pickle

import numpy as np
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.curation.given import store_given
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.inventory import readable, take_inventory
from strata.curation.pools.vectors import VectorPool
from strata.curation.store import EmbeddingStore

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return str(path)


def test_one_file_with_ids_and_labels_beside_it(tmp_path):
    path = save(tmp_path / "emb.npy", X[:3])
    (tmp_path / "emb.ids.txt").write_text("007\nä b\n007\n", encoding="utf-8")
    (tmp_path / "emb.labels.txt").write_text("1\r\n-1\r\n0\r\n")
    (tmp_path / "ids.txt").write_text("belongs\nto\nthe folder\n")
    pool = pickle.loads(pickle.dumps(VectorPool(path)))
    assert isinstance(pool, Pool) and pool.kind == "vectors" and pool.dim == 4
    assert list(pool.ids) == ["007", "ä b", "007#2"] and pool.labels.tolist() == [1, -1, 0]
    assert np.array_equal(pool[1], X[1]) and pool[1].flags.writeable


def test_shards_of_a_folder(tmp_path):
    for name, rows in (("b", X[20:]), ("a", X[:20])):
        save(tmp_path / "e" / f"{name}.npy", rows)
    save(tmp_path / "e" / "labels.npy", np.array(["z", "y"] * 25))
    pool = VectorPool(str(tmp_path / "e"))
    assert len(pool) == 50 and pool.label_names == ["y", "z"] and list(pool.ids[:2]) == ["0", "1"]
    assert np.array_equal(pool.read(18, 23), X[18:23]) and np.array_equal(pool.read(0, 50), X)


def test_the_store_links_and_notices_a_change(tmp_path):
    for name, rows in (("a", X[:20]), ("b", X[20:])):
        save(tmp_path / "e" / f"{name}.npy", rows)
    pool = VectorPool(str(tmp_path / "e"))
    out = store_given(pool, tmp_path / "store")
    assert sorted(file.name for file in out.iterdir()) == ["items.parquet", "manifest.json"], "rows were copied"
    store = EmbeddingStore(out)
    assert store.shape == (50, 4) and np.array_equal(store.to_numpy(), X) and store.ids == list(pool.ids)
    assert np.array_equal(store.take(np.array([49, 0, 20])), X[[49, 0, 20]])
    os.utime(tmp_path / "e" / "b.npy")  # touched, not changed
    EmbeddingStore(out)
    save(tmp_path / "e" / "b.npy", X[20:] + 1)
    with pytest.raises(DataError, match=r"b\.npy has changed"):
        EmbeddingStore(out)
    (tmp_path / "e" / "b.npy").unlink()
    with pytest.raises(DataError, match=r"b\.npy is gone"):
        EmbeddingStore(out)


@pytest.mark.parametrize("dtype", ["float64", "int16", ">f4"])
def test_other_numbers_are_copied(tmp_path, dtype):
    path = save(tmp_path / "e.npy", (X * 100).astype(dtype))
    store = EmbeddingStore(store_given(VectorPool(path), tmp_path / "store", shard_rows=7))
    assert store.dtype == np.float32 and (tmp_path / "store" / "shard-00007.npy").is_file()
    assert np.array_equal(store.to_numpy(), (X * 100).astype(dtype).astype(np.float32))


def test_bad_rows_are_fatal_or_left_out(tmp_path):
    bad = X.copy()
    bad[[0, 17, 49], [1, 2, 3]] = np.nan, np.inf, -np.inf
    pool = VectorPool(save(tmp_path / "e.npy", bad))
    with pytest.raises(UnreadableItem, match="row 17"):
        pool[17]
    with pytest.raises(DataError, match="3 of 50 items.*'0'"):
        take_inventory(pool, tmp_path / "fatal")
    kept = readable(pool, take_inventory(pool, tmp_path / "skip", on_error="skip"))
    store = EmbeddingStore(store_given(kept, tmp_path / "store", shard_rows=10))
    good = np.delete(np.arange(50), [0, 17, 49])
    assert np.array_equal(store.to_numpy(), X[good]) and store.ids == [str(row) for row in good]


def test_what_embed_wrote_brings_its_ids(tmp_path):
    EmbeddingStore.from_array(
        tmp_path / "s", X, ids=[f"i{i}" for i in range(50)], labels=[0, 1] * 25, label_names=["p", "q"], shard_rows=16
    )
    pool = VectorPool(str(tmp_path / "s"))
    assert pool.ids[49] == "i49" and pool.labels[1] == 1 and pool.label_names == ["p", "q"] and len(pool.files) == 4
    with pytest.raises(ConfigError, match="names 16 of the 50 rows"):
        VectorPool(str(tmp_path / "s" / "shard-00000.npy"))


def test_what_cannot_be_rows(tmp_path):
    with pytest.raises(ConfigError, match=r"\(50,\)"):
        VectorPool(save(tmp_path / "flat.npy", X[:, 0]))
    with pytest.raises(ConfigError, match="holds no rows"):
        VectorPool(save(tmp_path / "none.npy", X[:0]))
    with pytest.raises(ConfigError, match="complex"):
        VectorPool(save(tmp_path / "c.npy", X.astype(complex)))
    np.save(tmp_path / "o.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(DataError, match="plain array"):
        VectorPool(str(tmp_path / "o.npy"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "flat.npy").read_bytes()[:100])
    with pytest.raises(DataError, match="cut.npy"):
        VectorPool(str(tmp_path / "cut.npy"))
    save(tmp_path / "e" / "a.npy", X)
    save(tmp_path / "e" / "b.npy", X[:, :2])
    with pytest.raises(ConfigError, match=r"\[2, 4\] numbers"):
        VectorPool(str(tmp_path / "e"))
    path = save(tmp_path / "f" / "e.npy", X)
    (tmp_path / "f" / "e.ids.txt").write_text("a\nb\n")
    with pytest.raises(ConfigError, match="2 values for 50 rows"):
        VectorPool(path)
