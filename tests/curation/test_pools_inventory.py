"""The pool artifact."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.folder import ImageFolderPool
from strata.curation.pools.inventory import readable, take_inventory
from strata.curation.pools.rendered import RenderedPool


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    for i in range(16):
        file = root / f"c{i % 2}" / f"{i:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 + i, 8)).save(file)
    return root


def break_file(file):
    file.write_bytes(file.read_bytes()[:100])


def test_inventory_of_a_sound_pool(images, tmp_path):
    pool = ImageFolderPool(str(images))
    out = take_inventory(pool, tmp_path / "pool", key="k1", config={"a": 1})
    manifest = read_manifest(out, "pool")
    assert (manifest["n"], manifest["n_unreadable"], manifest["key"]) == (16, 0, "k1")
    assert manifest["fingerprint"] == pool.fingerprint and manifest["pool"] == pool.describe()
    assert manifest["image_size"] == {"width": [10, 25], "height": [8, 8]}
    table = pq.read_table(out / "items.parquet").to_pydict()
    assert table["row"] == list(range(16)) and table["id"] == list(pool.ids) and table["label"] == pool.labels.tolist()
    assert json.loads((out / "unreadable.json").read_text()) == []
    assert readable(pool, out) is pool


def test_fatal_names_the_first_and_counts_all(images, tmp_path):
    for name in ("c0/06.jpg", "c0/04.jpg", "c1/15.jpg"):
        break_file(images / name)
    with pytest.raises(DataError, match=r"3 of 16 items .*first 'c0/04\.jpg' \(row 2\).*on_error=skip"):
        take_inventory(ImageFolderPool(str(images)), tmp_path / "pool")
    assert not (tmp_path / "pool").exists() and not (tmp_path / "pool.partial").exists()


def test_skip_names_records_and_leaves_out(images, tmp_path, capsys):
    for name in ("c0/04.jpg", "c1/15.jpg"):
        break_file(images / name)
    pool = ImageFolderPool(str(images))
    out = take_inventory(pool, tmp_path / "pool", on_error="skip")
    errors = capsys.readouterr().err
    assert "Skipped 'c0/04.jpg' (row 2)" in errors and "Skipped 'c1/15.jpg' (row 15)" in errors
    recorded = json.loads((out / "unreadable.json").read_text())
    assert [(item["row"], item["id"]) for item in recorded] == [(2, "c0/04.jpg"), (15, "c1/15.jpg")]
    assert all(item["why"] for item in recorded) and read_manifest(out)["n_unreadable"] == 2
    rest = readable(pool, out)
    assert len(rest) == 14 and set(pool.ids) - set(rest.ids) == {"c0/04.jpg", "c1/15.jpg"}
    assert rest.name == pool.name and [rest[i].size[1] for i in range(14)] == [8] * 14
    assert rest.labels.tolist() == np.delete(pool.labels, [2, 15]).tolist()


def test_skip_names_ten_and_counts_the_rest(images, tmp_path, capsys):
    for file in sorted(images.rglob("*.jpg"))[:13]:
        break_file(file)
    take_inventory(ImageFolderPool(str(images)), tmp_path / "pool", on_error="skip")
    errors = capsys.readouterr().err
    assert errors.count("Skipped") == 10 and "3 more" in errors


def test_nothing_readable(images, tmp_path):
    for file in images.rglob("*.jpg"):
        break_file(file)
    with pytest.raises(DataError, match="none of the 16 items"):
        take_inventory(ImageFolderPool(str(images)), tmp_path / "pool", on_error="skip")


def test_changed_data_is_noticed(images, tmp_path):
    out = take_inventory(ImageFolderPool(str(images)), tmp_path / "pool")
    Image.new("RGB", (3, 3)).save(images / "c0/00.jpg")
    with pytest.raises(DataError, match="run the pool stage again"):
        readable(ImageFolderPool(str(images)), out)


def test_pool_without_labels(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    out = take_inventory(ImageFolderPool(str(tmp_path)), tmp_path / "out")
    assert pq.read_table(out / "items.parquet")["label"].to_pylist() == [-1]


class Odd:
    name, labels, label_names, fingerprint = "odd", None, None, "0"

    def __init__(self, ids):
        self.ids = ids

    def __len__(self):
        return len(self.ids)


def test_bad_pools_and_settings(tmp_path):
    with pytest.raises(ConfigError, match="is empty"):
        take_inventory(Odd([]), tmp_path / "out")
    with pytest.raises(DataError, match="ids"):
        take_inventory(Odd(["a", "a"]), tmp_path / "out")
    with pytest.raises(ConfigError, match="on_error"):
        take_inventory(RenderedPool(3), tmp_path / "out", on_error="ignore")


def test_workers_find_the_same(images, tmp_path):
    """Also: a pool goes through a spawned DataLoader worker, and an unreadable item does not end it."""
    break_file(images / "c0/04.jpg")
    pool = ImageFolderPool(str(images))
    outs = [take_inventory(pool, tmp_path / f"pool{n}", on_error="skip", num_workers=n) for n in (0, 1)]
    assert read_manifest(outs[0]) == read_manifest(outs[1])
    for name in ("unreadable.json", "items.parquet"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
