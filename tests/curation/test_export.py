"""A subset and a copy of its items: what is written is what our own readers, and those of others, read again."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.utils import instantiate
from PIL import Image

from strata.curation.errors import ConfigError, StrataError
from strata.curation.export import tars
from strata.curation.export.publish import publish
from strata.curation.pools.detect import detect
from strata.curation.pools.digits import DigitsPool
from strata.curation.pools.folder import ImageFolderPool
from strata.curation.pools.jsonl import JsonlPool
from strata.curation.pools.parquet import ParquetPool
from strata.curation.pools.subset import SubsetPool
from strata.curation.pools.vectors import VectorPool
from strata.curation.subset import Selection, write_subset

NAMES = ["cats/0.jpg", "cats/ü 1.png", "cats/deep/0.jpg", "dogs/0.v2.jpg", "dogs/x.webp", "emus/0.gif"]


@pytest.fixture
def images(tmp_path):
    for i, name in enumerate(NAMES):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (40 * i, 0, 0)).save(file)
    return ImageFolderPool(str(tmp_path / "images"))


def export(pool, rows, out, copy):
    """``out`` with the given rows (drawn, repeats included)."""
    artifact = out.with_name(out.name + "-subset")
    write_subset(artifact, Selection.of(rows), ids=pool.ids, labels=pool.labels, label_names=pool.label_names)
    publish(artifact, out, pool, copy)
    assert not list(out.parent.glob("*.partial")) and not list(out.glob("*.tmp"))
    assert pq.read_table(out / "subset.parquet")["row"].to_pylist() == sorted(set(rows))
    return out / "data"


def again(path):
    return instantiate(detect(str(path)), _convert_="all")


def classes(pool):
    return [pool.label_names[label] if label >= 0 else None for label in pool.labels]


@pytest.mark.parametrize("copy", ["folder", "symlinks", "webdataset", "parquet", "hf"])
def test_images_come_back_byte_for_byte(images, tmp_path, copy):
    rows = [0, 1, 2, 3, 3, 5]
    data = export(images, rows, tmp_path / "out", copy)
    pool = again(data)
    kept = [0, 1, 2, 3, 5]
    assert sorted(pool.encoded(i) for i in range(len(pool))) == sorted(images.encoded(row) for row in kept)
    by_bytes = {pool.encoded(i): i for i in range(len(pool))}
    for row in kept:
        i = by_bytes[images.encoded(row)]
        assert pool[i].tobytes() == images[row].tobytes()
        assert pool.labels[i] == images.labels[row]
        if copy != "webdataset":
            assert pool.ids[i] == images.ids[row] and pool.label_names == images.label_names
    if copy in ("parquet", "hf"):
        assert pool.column("n_repeat").tolist() == [1, 1, 1, 2, 1]


def test_symlinks_lead_to_the_files(images, tmp_path):
    data = export(images, [3], tmp_path / "out", "symlinks")
    assert (data / NAMES[3]).is_symlink() and (data / NAMES[3]).resolve() == images.file(3).resolve()


def test_a_webdataset_tells_ids_and_is_the_same_bytes_again(images, tmp_path, monkeypatch):
    monkeypatch.setattr(tars.write_tars, "__defaults__", (2, 1 << 30))
    one = export(images, range(6), tmp_path / "one", "webdataset")
    two = export(images, range(6), tmp_path / "two", "webdataset")
    files = sorted(file.name for file in one.iterdir())
    assert files == [f"subset-{i:06d}.tar" for i in range(3)]
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    assert list(again(one).ids) == ["cats/0", "cats/deep/0", "cats/ü 1", "000000003", "dogs/x", "emus/0"]
    wds = pytest.importorskip("webdataset")
    theirs = list(wds.WebDataset([str(one / file) for file in files], shardshuffle=False))
    assert [json.loads(item["json"])["id"] for item in theirs] == list(images.ids)
    assert [int(item["cls"]) for item in theirs] == images.labels.tolist()
    assert theirs[0]["jpg"] == images.encoded(0)


def test_a_hugging_face_data_set_opens_as_one(images, tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.load_from_disk(str(export(images, [0, 5], tmp_path / "out", "hf")))
    assert data.features["label"].names == ["cats", "dogs", "emus"] and data["id"][:] == [NAMES[0], NAMES[5]]
    assert data[1]["image"].convert("RGB").getpixel((0, 0)) == images[5].getpixel((0, 0))
    plain = export(images, [0, 5], tmp_path / "plain", "parquet")
    assert datasets.Dataset.from_parquet(str(plain / "train-00000-of-00001.parquet"), cache_dir=str(tmp_path / "c"))[0][
        "image"
    ].size == (5, 4)


def test_drawn_images_come_as_png(tmp_path):
    pool = DigitsPool()
    for copy in ("folder", "webdataset"):
        copied = again(export(pool, [3, 700], tmp_path / copy, copy))
        assert {image.tobytes() for image in (copied[0], copied[1])} == {pool[3].tobytes(), pool[700].tobytes()}
    assert len(again(tmp_path / "folder" / "data").label_names) == 10


def test_ids_that_are_no_safe_paths(tmp_path, images):
    """A table may call its images anything; nothing is written outside the folder, and nothing twice."""
    ids = ["../../evil.jpg", "/etc/evil.jpg", "a/../../b.jpg", ".hidden.jpg", "same.jpg", "x\0y.jpg", "l" * 300, ""]
    data = [images.encoded(0)] * len(ids)
    column = pa.StructArray.from_arrays([pa.array(data, pa.binary()), pa.array(ids)], ["bytes", "path"])
    pq.write_table(pa.table({"image": column, "label": [0, 1] * 4}), tmp_path / "t.parquet")
    pool = ParquetPool(str(tmp_path / "t.parquet"), None)
    for copy in ("folder", "webdataset"):
        out = tmp_path / copy / "out"
        out.parent.mkdir()
        copied = again(export(pool, range(8), out, copy))
        assert len(copied) == 8 and sorted(copied.labels.tolist()) == [0] * 4 + [1] * 4
        assert sorted(entry.name for entry in out.parent.iterdir()) == ["out", "out-subset"]
    assert not (tmp_path / "evil.jpg").exists() and not (tmp_path.parent / "evil.jpg").exists()


def test_class_names_that_are_no_folder_names(tmp_path, images):
    features = {"label": {"names": ["a/b", "a_b", "..", ""], "_type": "ClassLabel"}}
    table = pa.table({"image": [images.encoded(i) for i in range(4)], "label": [0, 1, 2, 3]})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), tmp_path / "t.parquet")
    pool = ParquetPool(str(tmp_path / "t.parquet"), None)
    copied = again(export(pool, range(4), tmp_path / "out", "folder"))
    assert len(copied) == 4 and len(set(classes(copied))) == 4


LINES = ['{"text": "ä", "id": "x", "label": "p", "more": [1, 2]}', '{"text": "b", "id": "x", "label": "q"}',
         '{"id": "z",   "text": "line\\nbreak \\u2028"}']  # fmt: skip


@pytest.mark.parametrize("copy", ["jsonl", "webdataset", "parquet", "hf"])
def test_texts_come_back(tmp_path, copy):
    (tmp_path / "t.jsonl").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    pool = JsonlPool(str(tmp_path / "t.jsonl"), id_field="id", label_field="label")
    data = export(SubsetPool(pool, [1, 0, 2]), [0, 1, 2], tmp_path / "out", copy)
    copied = again(data)
    assert [copied[i] for i in range(3)] == ["b", "ä", "line\nbreak \u2028"]
    assert copied.labels.tolist() == [1, 0, -1]
    if copy == "jsonl":
        lines = (data / "subset.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        assert lines == [LINES[1], LINES[0], LINES[2]], "the lines themselves, with all their fields"
    if copy in ("parquet", "hf"):
        assert list(copied.ids) == ["x#2", "x", "z"]
        lines = export(copied, [0, 2], tmp_path / "lines", "jsonl") / "subset.jsonl"
        records = [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n") if line]
        assert records == [
            {"id": "x#2", "text": "b", "label": "q"},
            {"id": "z", "text": "line\nbreak \u2028"},
        ]


def test_vectors_come_back(tmp_path):
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float16)
    np.save(tmp_path / "e.npy", X)
    np.save(tmp_path / "e.ids.npy", np.array([f"ï{i}" for i in range(9)]))
    np.save(tmp_path / "e.labels.npy", np.arange(9) - 1)
    pool = VectorPool(str(tmp_path / "e.npy"))
    data = export(pool, [8, 0, 4], tmp_path / "out", "npy")
    for path in (data, data / "embeddings.npy"):
        copied = again(path)
        assert np.array_equal(copied.read(0, 3), X[[0, 4, 8]]) and copied.read(0, 1).dtype == np.float16
        assert list(copied.ids) == ["ï0", "ï4", "ï8"] and copied.labels.tolist() == [-1, 3, 7]


@pytest.mark.parametrize(
    ("copy", "message"), [("jsonl", "does not fit images.*folder"), ("zip", "unknown"), ("symlinks", "no files")]
)
def test_formats_that_do_not_fit(tmp_path, copy, message):
    with pytest.raises(ConfigError, match=f"copy: .*{message}"):
        export(DigitsPool(), [0], tmp_path / "out", copy)
    assert not (tmp_path / "out").exists()


def test_all_or_nothing(images, tmp_path):
    (tmp_path / "images" / NAMES[4]).unlink()
    with pytest.raises(StrataError, match=NAMES[4]):
        export(images, range(6), tmp_path / "out", "folder")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_what_a_killed_run_left_is_written_anew_and_nothing_else_removed(images, tmp_path):
    (tmp_path / "out.partial" / "data").mkdir(parents=True)
    with pytest.raises(ConfigError, match="not ours"):
        export(images, [0], tmp_path / "out", "folder")
    (tmp_path / "out.partial" / "written-by-strata.tmp").touch()
    (tmp_path / "out.partial" / "data" / "old.jpg").touch()
    publish(tmp_path / "out-subset", tmp_path / "out", images, "folder")
    assert [str(file.relative_to(tmp_path / "out" / "data")) for file in (tmp_path / "out" / "data").rglob("*.*")] == [
        NAMES[0]
    ]
    assert not any((tmp_path / "out" / "data" / "emus").iterdir())
    with pytest.raises(ConfigError, match="exists already"):
        publish(tmp_path / "out-subset", tmp_path / "out", images)
