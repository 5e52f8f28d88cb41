"""Parquet shards in the layout of the Hugging Face Hub."""

import io
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import data_root
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.parquet import ParquetPool

NAMES = ["cat", "dog", "fish"]


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, 255 - value)).save(stream, "PNG")
    return stream.getvalue()


def write(folder, split="train", sizes=(5, 4), binary=False, paths=True, row_group_size=2, corrupt=(), labels=None):
    """Shards whose image at row i is filled with 10 * i and whose label is i % 3 (or given)."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for shard, size in enumerate(sizes):
        rows = range(start, start + size)
        data = [b"broken" if i in corrupt else png(10 * i) for i in rows]
        image = pa.array(data, pa.binary())
        if not binary:
            names = pa.array([f"img/{i}.png" if paths else None for i in rows], pa.string())
            image = pa.StructArray.from_arrays([image, names], ["bytes", "path"])
        label = pa.array([labels[i] if labels else i % 3 for i in rows], pa.int64())
        rank = pa.array([100 + i for i in rows], pa.int32())
        table = pa.table({"image": image, "label": label, "class_rank": rank, "note": [f"n{i}" for i in rows]})
        features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        file = folder / f"{split}-{shard:05d}-of-{len(sizes):05d}.parquet"
        pq.write_table(table, file, row_group_size=row_group_size, compression="zstd")
        start += size
    return folder


def values(pool):
    return [np.asarray(pool[i])[0, 0, 0] for i in range(len(pool))]


@pytest.mark.parametrize("binary", [False, True])
def test_reads_every_item_of_every_shard(tmp_path, binary):
    pool = ParquetPool(str(write(tmp_path / "pets", binary=binary)), "train")
    assert isinstance(pool, Pool)
    assert len(pool) == 9 and values(pool) == [10 * i for i in range(9)]
    assert pool[8].mode == "RGB"
    assert pool.labels.dtype == np.int64 and pool.labels.tolist() == [i % 3 for i in range(9)]
    assert pool.label_names == NAMES and pool.name == "pets-train"
    assert pool.column("class_rank").tolist() == list(range(100, 109))
    assert pool.column("note")[8] == "n8"
    json.dumps(pool.describe())


def test_ids(tmp_path):
    assert ParquetPool(str(write(tmp_path / "a")), "train").ids[8] == "img/8.png"
    without = ParquetPool(str(write(tmp_path / "b", paths=False)), "train")
    assert without.ids[5] == "train-00001-of-00002:0" and len(set(without.ids)) == 9
    assert ParquetPool(str(write(tmp_path / "c")), "train", id_column="note").ids[3] == "n3"
    same = ParquetPool(str(write(tmp_path / "d")), "train", id_column="label")
    assert list(same.ids[:4]) == ["0", "1", "2", "0#2"]


def test_order_of_reading_and_a_small_cache_do_not_matter(tmp_path):
    pool = ParquetPool(str(write(tmp_path / "a")), "train")
    pool._cache_bytes = 1  # every row group is dropped when the next one comes
    order = [8, 0, 3, 3, 7, 1]
    assert [np.asarray(pool[i])[0, 0, 0] for i in order] == [10 * i for i in order]
    assert len(pool._groups) == 1


def test_a_row_group_is_unpacked_once(tmp_path, monkeypatch):
    pool = ParquetPool(str(write(tmp_path / "a")), "train")
    opened = []
    monkeypatch.setattr(pool, "_file", lambda shard, file=pool._file: opened.append(shard) or file(shard))
    values(pool), values(pool)
    assert len(opened) == 5  # groups of 2: three in the first shard, two in the second


def test_fingerprint(tmp_path):
    a = ParquetPool(str(write(tmp_path / "a")), "train")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert ParquetPool(str(tmp_path / "b"), "train").fingerprint == a.fingerprint
    changed = ParquetPool(str(write(tmp_path / "c", labels=[0, 1, 2, 0, 1, 2, 0, 1, 0])), "train")
    assert changed.fingerprint != a.fingerprint
    assert ParquetPool(str(tmp_path / "a"), "train", label_column=None).fingerprint != a.fingerprint


def test_null_labels_and_no_labels(tmp_path):
    folder = write(tmp_path / "a", labels=[0, None, 2, 0, 1, 2, 0, 1, None])
    assert ParquetPool(str(folder), "train").labels.tolist() == [0, -1, 2, 0, 1, 2, 0, 1, -1]
    pool = ParquetPool(str(folder), "train", label_column=None)
    assert pool.labels is None and pool.label_names is None


def test_corrupt_image_is_named(tmp_path):
    pool = ParquetPool(str(write(tmp_path / "a", corrupt={6})), "train")
    with pytest.raises(UnreadableItem) as caught:
        pool[6]
    assert (caught.value.row, caught.value.item_id) == (6, "img/6.png")
    assert pool[5].size == (4, 4)


def test_truncated_file(tmp_path):
    folder = write(tmp_path / "a")
    file = folder / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet is not a whole Parquet file"):
        ParquetPool(str(folder), "train")


def test_damaged_row_group_names_the_item(tmp_path):
    folder = write(tmp_path / "a", sizes=(4,), row_group_size=2)
    file = folder / "train-00000-of-00001.parquet"
    offset = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(file.read_bytes())
    content[offset : offset + 60] = b"\xff" * 60
    file.write_bytes(content)
    pool = ParquetPool(str(folder), "train")
    assert pool[1].size == (4, 4)
    with pytest.raises(UnreadableItem, match=r"img/2\.png"):
        pool[2]


def test_missing_shard(tmp_path):
    folder = write(tmp_path / "a", sizes=(2, 2, 2))
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match="should have 3 shards"):
        ParquetPool(str(folder), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test"}, r"pool\.split: .*choose one of \['train'\]"),
        ({"image_column": "picture"}, r"pool\.image_column: 'picture' is not a column"),
        ({"image_column": "note"}, r"pool\.image_column: 'note' is string"),
        ({"label_column": "target"}, r"pool\.label_column: 'target' is not a column.*null"),
        ({"label_column": "note"}, r"pool\.label_column: 'note' is string"),
        ({"id_column": "key"}, r"pool\.id_column"),
        ({"cache_mib": 0}, r"pool\.cache_mib"),
        ({"path": "/no/such"}, r"pool\.path"),
    ],
)
def test_bad_settings(tmp_path, change, message):
    settings = {"path": str(write(tmp_path / "a")), "split": "train", **change}
    with pytest.raises(ConfigError, match=message):
        ParquetPool(**settings)


def test_folder_without_shards_and_unknown_column(tmp_path):
    with pytest.raises(ConfigError, match=r"pool\.path.*no file like"):
        ParquetPool(str(tmp_path), "train")
    with pytest.raises(ConfigError, match="class_rank"):
        ParquetPool(str(write(tmp_path / "a")), "train").column("domain")


def test_shards_in_data_with_a_hash(tmp_path):
    write(tmp_path / "a" / "data", sizes=(3,))
    file = tmp_path / "a/data/train-00000-of-00001.parquet"
    file.rename(file.with_name("train-00000-of-00001-0a1b2c3d.parquet"))
    assert len(ParquetPool(str(tmp_path / "a"), "train")) == 3


def test_pickle_drops_handles_and_images(tmp_path):
    pool = ParquetPool(str(write(tmp_path / "a")), "train")
    values(pool), pool.ids
    copy = pickle.loads(pickle.dumps(pool))
    assert not copy._files and not copy._groups and copy._ids is None
    assert values(copy) == values(pool) and copy.ids == pool.ids
    with pytest.raises(IndexError):
        copy[9]


@pytest.mark.data
def test_real_tinyimagenet_lt():
    root = data_root()
    if root is None or not (root / "images/tinyimagenet_lt").is_dir():
        pytest.skip("images/tinyimagenet_lt is not there; set STRATA_DATA")
    pool = ParquetPool(str(root / "images/tinyimagenet_lt"), "pool")
    assert len(pool) == 26735 and len(set(pool.ids)) == 26735
    assert pool.ids[0] == "n01443537_461.JPEG" and pool.label_names[0].startswith("n01443537")
    counts = np.bincount(pool.labels, minlength=200)
    assert (counts.min(), counts.max()) == (15, 475)
    rank = pool.column("class_rank")
    assert rank[pool.labels == counts.argmax()].tolist() == [0] * 475
    assert {pool[i].size for i in range(0, 26735, 1337)} == {(64, 64)}
