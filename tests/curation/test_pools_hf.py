"""Data sets of Hugging Face `datasets`, from local files only."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.hf import HFDatasetPool

datasets = pytest.importorskip("datasets")


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def table(n=6, broken=None):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "eel"]),
            "raw": datasets.Value("binary"),
            "key": datasets.Value("string"),
        }
    )
    data = [b"broken" if i == broken else png(10 * i) for i in range(n)]
    image = [{"bytes": d, "path": f"img/{i}.png"} for i, d in enumerate(data)]
    label = [i % 2 for i in range(n)]
    columns = {"image": image, "label": label, "raw": data, "key": [f"k{i}" for i in range(n)]}
    return datasets.Dataset.from_dict(columns, features=features)


def red(pool):
    return [np.asarray(pool[i])[0, 0, 0] for i in range(len(pool))]


@pytest.fixture
def saved(tmp_path):
    datasets.DatasetDict({"train": table(), "test": table(3)}).save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def test_saved_to_disk(saved):
    pool = HFDatasetPool(saved, "train")
    assert isinstance(pool, Pool) and len(pool) == 6 and pool.name == "saved-train"
    assert red(pool) == [0, 10, 20, 30, 40, 50] and pool[0].mode == "RGB"
    assert pool.labels.tolist() == [0, 1, 0, 1, 0, 1] and pool.label_names == ["cat", "dog", "eel"]
    assert list(pool.ids)[:2] == ["0.png", "1.png"] and pool.column("key")[5] == "k5"
    assert len(HFDatasetPool(saved, "test")) == 3


def test_one_data_set_without_splits(tmp_path):
    table().save_to_disk(str(tmp_path / "one"))
    assert len(HFDatasetPool(str(tmp_path / "one"), None)) == 6
    with pytest.raises(ConfigError, match=r"pool\.split.*null"):
        HFDatasetPool(str(tmp_path / "one"), "train")


def test_binary_column_and_other_columns(saved):
    pool = HFDatasetPool(saved, "train", image_column="raw", label_column=None)
    assert red(pool) == [0, 10, 20, 30, 40, 50] and pool.labels is None
    assert pool.ids[3] == "train:3"
    assert list(HFDatasetPool(saved, "train", id_column="key").ids)[:2] == ["k0", "k1"]


def test_local_files(tmp_path):
    for i, name in enumerate(["train/cat/a.png", "train/dog/b.png", "train/dog/c.png"]):
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(10 * i))
    pool = HFDatasetPool(str(tmp_path / "files"), "train", cache_dir=str(tmp_path / "cache"))
    assert sorted(pool.ids) == ["train/cat/a.png", "train/dog/b.png", "train/dog/c.png"]
    assert sorted(red(pool)) == [0, 10, 20] and pool.label_names == ["cat", "dog"]
    shutil.copytree(tmp_path / "files", tmp_path / "moved")
    moved = HFDatasetPool(str(tmp_path / "moved"), "train", cache_dir=str(tmp_path / "cache"))
    assert moved.fingerprint == pool.fingerprint
    (tmp_path / "moved/train/dog/b.png").unlink()
    row = list(moved.ids).index("train/dog/b.png")
    with pytest.raises(UnreadableItem, match="train/dog/b.png"):
        moved[row]


def test_parquet_shards_and_a_slice(tmp_path):
    (tmp_path / "p").mkdir()
    table().to_parquet(str(tmp_path / "p/train-00000-of-00001.parquet"))
    pool = HFDatasetPool(str(tmp_path / "p"), "train[2:5]", cache_dir=str(tmp_path / "cache"))
    assert red(pool) == [20, 30, 40] and pool.labels.tolist() == [0, 1, 0] and pool.label_names[2] == "eel"
    with pytest.raises(ConfigError, match=r"test.*cannot be loaded"):
        HFDatasetPool(str(tmp_path / "p"), "test", cache_dir=str(tmp_path / "cache"))


def test_corrupt_image_is_named(tmp_path):
    table(broken=4).save_to_disk(str(tmp_path / "one"))
    pool = HFDatasetPool(str(tmp_path / "one"), None)
    with pytest.raises(UnreadableItem, match=r"'4\.png' \(row 4\)"):
        pool[4]


def test_fingerprint(saved, tmp_path):
    first = HFDatasetPool(saved, "train").fingerprint
    shutil.copytree(saved, tmp_path / "moved")
    assert HFDatasetPool(str(tmp_path / "moved"), "train").fingerprint == first
    assert HFDatasetPool(saved, "test").fingerprint != first
    table(broken=4).save_to_disk(str(tmp_path / "other"))
    assert HFDatasetPool(str(tmp_path / "other"), None).fingerprint != first


def test_pickle(saved):
    pool = HFDatasetPool(saved, "train")
    copy = pickle.loads(pickle.dumps(pool))
    assert red(copy) == red(pool) and copy.ids == pool.ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, r"pool\.split.*choose one of \['test', 'train'\]"),
        ({"image_column": "img"}, r"pool\.image_column"),
        ({"image_column": "key"}, r"pool\.image_column"),
        ({"label_column": "class"}, r"pool\.label_column.*null"),
        ({"label_column": "key"}, r"pool\.label_column"),
        ({"id_column": "no"}, r"pool\.id_column"),
        ({"path": "./no/such/folder"}, r"pool\.path"),
    ],
)
def test_bad_settings(saved, change, message):
    with pytest.raises(ConfigError, match=message):
        HFDatasetPool(**{"path": saved, "split": "train", **change})


def test_hub_id_that_cannot_be_reached(monkeypatch, tmp_path):
    def offline(path, *args, **kwargs):
        assert path == "owner/name"
        raise ConnectionError("the hub is out of reach")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ConfigError, match=r"pool\.path: 'owner/name' is no local folder.*out of reach"):
        HFDatasetPool("owner/name", "train")


def test_local_data_never_ask_the_hub(saved, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(Path(saved).parent)
    assert len(HFDatasetPool("saved", "train")) == 6
