"""What kind of data a path holds."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.utils import instantiate
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.detect import detect
from strata.curation.store import EmbeddingStore


@pytest.fixture
def png(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "blank.png")
    data = (tmp_path / "blank.png").read_bytes()
    (tmp_path / "blank.png").unlink()
    return data


def opened(path):
    return instantiate(detect(str(path)), _convert_="all")


def reader(path):
    return detect(str(path))["_target_"].rsplit(".", 1)[-1]


def test_images_at_any_depth(tmp_path, png):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.PNG").write_bytes(png)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "a" / "list.jsonl").write_text("{}")  # below: a companion, not the data
    assert reader(tmp_path) == "ImageFolderPool" and opened(tmp_path).labels.tolist() == [0]


def test_files_globs_and_folders_of_tars_npy_and_jsonl(tmp_path):
    for name in ("s-0.tar", "s-1.tar"):
        (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / "s-0.tar", tmp_path / "s-*.tar"):
        assert detect(str(path)) == {
            "_target_": "strata.curation.pools.webdataset_tars.WebDatasetPool",
            "path": str(path),
        }
    np.save(tmp_path / "e.npy", np.eye(3))
    assert reader(tmp_path / "e.npy") == "VectorPool"
    EmbeddingStore.from_array(tmp_path / "store", np.eye(3), ids=["a", "b", "c"])
    assert list(opened(tmp_path / "store").ids) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"text": "x", "id": 1, "label": "y", "title": "z"}, ("text", "id", "label")),
        ({"content": "x", "label": None, "id": None}, ("content", None, None)),
        ({"note": "x", "score": 0.5}, ("note", None, None)),
    ],
)
def test_fields_of_jsonl(tmp_path, record, fields):
    (tmp_path / "t.jsonl").write_text("not json\n[]\n" + json.dumps(record) + "\n")
    found = detect(str(tmp_path / "t.jsonl"))
    assert (found["text_field"], found["id_field"], found["label_field"]) == fields
    assert opened(tmp_path / "t.jsonl")[2] == "x"


@pytest.mark.parametrize(
    "content", ['{"a": "x", "b": "y"}', '{"n": 1}', "[1]\n{", ""], ids=["two texts", "no text", "no object", "empty"]
)
def test_jsonl_that_does_not_tell(tmp_path, content):
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(ConfigError, match="data: .*t.jsonl has"):
        detect(str(tmp_path / "t.jsonl"))


def test_parquet_of_any_name_and_columns(tmp_path, png):
    image = pa.table({"img": [png, png], "label": [0, 1], "id": ["p", "q"], "caption": ["a", "b"]})
    pq.write_table(image, tmp_path / "part.parquet")
    pool = opened(tmp_path / "part.parquet")
    assert pool.kind == "images" and list(pool.ids) == ["p", "q"] and pool[1].size == (4, 4)
    assert list(opened(tmp_path).ids) == ["p", "q"]
    pq.write_table(pa.table({"url": ["u", "v"], "text": ["one", "zwei ä"]}), tmp_path / "part.parquet")
    pool = opened(tmp_path)
    assert pool.kind == "text" and pool[1] == "zwei ä" and pool.labels is None and pool.encoded(1) == "zwei ä".encode()
    pq.write_table(pa.table({"a": ["u"], "b": ["v"], "n": [1]}), tmp_path / "part.parquet")
    with pytest.raises(ConfigError, match=r"columns a \(string\), b \(string\), n \(int64\); say which"):
        detect(str(tmp_path))


def test_splits_have_to_be_chosen(tmp_path, png):
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": [png]}), tmp_path / f"{split}-00000-of-00001.parquet")
    with pytest.raises(ConfigError, match="splits test, train.*pool.split=test"):
        detect(str(tmp_path))
    (tmp_path / "test-00000-of-00001.parquet").unlink()
    assert detect(str(tmp_path))["split"] == "train"


def test_saved_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]})
    data.save_to_disk(str(tmp_path / "one"))
    pool = opened(tmp_path / "one")
    assert pool.kind == "text" and pool[0] == "a" and pool.labels.tolist() == [1, 0]
    datasets.DatasetDict({"x": data}).save_to_disk(str(tmp_path / "dict"))
    assert opened(tmp_path / "dict")[1] == "b"
    datasets.DatasetDict({"x": data, "y": data}).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(ConfigError, match="splits x, y"):
        detect(str(tmp_path / "two"))


def test_more_than_one_kind_is_listed(tmp_path, png):
    (tmp_path / "s.tar").touch()
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).write_bytes(png)
    with pytest.raises(ConfigError, match=r"2 image files, 1 .tar files; say which: pool=NAME"):
        detect(str(tmp_path))


def test_nothing_to_read(tmp_path, png):
    with pytest.raises(ConfigError, match="holds nothing"):
        detect(str(tmp_path))
    (tmp_path / "a.csv").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match=r"holds 1 .csv, 1 folders"):
        detect(str(tmp_path))
    with pytest.raises(ConfigError, match="a.csv is a file"):
        detect(str(tmp_path / "a.csv"))
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(ConfigError, match="or a folder of images"):
        detect(str(tmp_path / "a.png"))
    with pytest.raises(ConfigError, match="data: .*nowhere"):
        detect(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="data: no file matches"):
        detect(str(tmp_path / "*.tar"))
