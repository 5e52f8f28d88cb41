"""Extraction: killed in the middle of a split, in several processes, with patch tokens, maps and columns."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

import strata.eval.chunks as chunks
from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.eval.backbone import load_backbone
from strata.eval.extract import extract_features
from strata.eval.features import Features, describe_features, splits_of

NAMES = ["a", "b", "c"]
CPU = {"device": "cpu", "dtype": "float32"}


class MapPool:
    """Random images with maps of different sizes; can be sent to a process."""

    def __init__(self, n, seed=0, bad=None):
        self.name, self.labels, self.label_names, self.n, self.seed, self.bad = "maps", None, ["x", "y"], n, seed, bad
        self.task_info = {"min": 0, "max": 9}

    ids = property(lambda self: [f"item-{row}" for row in range(self.n)])
    fingerprint = property(lambda self: hashlib.sha256(f"{self.n} {self.seed} {self.bad}".encode()).hexdigest())

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if row == self.bad:
            raise DataError(f"item {row} is bad")
        rng = np.random.default_rng((self.seed, row))
        return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))

    def target(self, row):
        return np.random.default_rng(row).integers(0, 2, (3 + row % 4, 5), dtype=np.uint8)

    def describe(self):
        return {"reader": "maps"}


@pytest.fixture
def backbone(backbone_folder):
    return load_backbone(backbone_folder, "cpu")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 4)


class Killed(RuntimeError):
    pass


def same(a, b, split="all"):
    one, two = Features.open(a, split), Features.open(b, split)
    for name in ("cls", "avg", "patches"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.ids == two.ids
    for row in range(len(one)):
        np.testing.assert_array_equal(one.targets[row], two.targets[row])


def test_a_killed_extraction_goes_on_in_the_middle(backbone, tmp_path, small_chunks, monkeypatch):
    pool, options = MapPool(19), {"batch_size": 2, "patches": 2, "labelled": False, **CPU}
    whole = extract_features(backbone, {"all": pool}, tmp_path / "whole", **options)
    read, asked = MapPool.__getitem__, []

    def dies(self, row):
        if row == 13:
            raise Killed
        return read(self, row)

    monkeypatch.setattr(MapPool, "__getitem__", dies)
    with pytest.raises(Killed):
        extract_features(backbone, {"all": pool}, tmp_path / "f", key="k", **options)
    assert not (tmp_path / "f").exists()
    monkeypatch.setattr(MapPool, "__getitem__", lambda self, row: asked.append(row) or read(self, row))
    again = extract_features(backbone, {"all": pool}, tmp_path / "f", key="k", **options)
    assert sorted(asked) == list(range(12, 19))  # three chunks of four rows were done
    same(whole, again)
    assert sorted(file.name for file in (again / "all").iterdir()) == [
        "avg.npy", "cls.npy", "items.parquet", "patches.npy", "target_sizes.npy", "targets.npy",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["batch_size", "patches", "dtype"])
def test_what_other_settings_left_is_not_kept(backbone, tmp_path, small_chunks, monkeypatch, change):
    options = {"batch_size": 2, "patches": 1, "labelled": False, **CPU}
    read = MapPool.__getitem__

    def dies(self, row):
        if row == 9:
            raise Killed
        return read(self, row)

    monkeypatch.setattr(MapPool, "__getitem__", dies)
    with pytest.raises(Killed):
        extract_features(backbone, {"all": MapPool(10)}, tmp_path / "f", key="k", **options)
    monkeypatch.setattr(MapPool, "__getitem__", read)
    options |= {change: {"batch_size": 3, "patches": 2, "dtype": "float16"}[change]}
    found = extract_features(backbone, {"all": MapPool(10)}, tmp_path / "f", key="k", **options)
    same(extract_features(backbone, {"all": MapPool(10)}, tmp_path / "whole", **options), found)


def test_processes_and_workers_give_the_same_numbers(backbone, tmp_path, small_chunks):
    options = {"batch_size": 3, "patches": 1, "labelled": False, **CPU}
    one = extract_features(backbone, {"all": MapPool(20)}, tmp_path / "one", **options)
    two = extract_features(backbone, {"all": MapPool(20)}, tmp_path / "two", processes=2, **options)
    same(one, two)
    workers = extract_features(backbone, {"all": MapPool(20)}, tmp_path / "workers", num_workers=1, **options)
    same(one, workers)
    with pytest.raises(DataError, match="item 17 is bad"):
        extract_features(backbone, {"all": MapPool(20, bad=17)}, tmp_path / "bad", processes=2, **options)
    assert not list(tmp_path.glob("bad*"))
    assert str(backbone.device) == "cpu"


def test_patches_columns_and_candidates(backbone, array_pool, tmp_path):
    pool = array_pool([2, 0, 2, 1], NAMES)
    pool.extra = {"accepted": [[2, 1], [0], [2], [1]], "group.region": ["n", "s", "n", "s"]}
    pool.candidates = [0, 1, 2]
    found = Features.open(extract_features(backbone, {"test": pool}, tmp_path / "f", patches=2, **CPU), "test")
    tokens = backbone.read(torch.stack([backbone.transform(pool[row]) for row in range(4)]))
    np.testing.assert_allclose(found.patches, tokens.patches[:, -2:], atol=1e-5)
    np.testing.assert_allclose(found.patches.mean(axis=2), found.avg[:, -2:], atol=1e-5)
    assert found.patches.shape == (4, 2, 4, 12) and found.grid == (2, 2)
    assert found.columns["accepted"] == pool.extra["accepted"]
    assert found.groups == {"region": ["n", "s", "n", "s"]}
    assert found.candidates.tolist() == [0, 1, 2]
    assert found.need_patches(1, "x").shape == (4, 1, 4, 12)
    with pytest.raises(DataError, match="x reads the patch tokens of 3 blocks, and these features hold 2"):
        found.need_patches(3, "x")


def test_a_folder_for_each_split(backbone, backbone_folder, array_pool, tmp_path):
    train, test = array_pool([0, 1, 2, 0], NAMES, name="tr"), array_pool([1, 2], NAMES, seed=4, name="te")
    both = extract_features(backbone, {"train": train, "test": test}, tmp_path / "both", **CPU)
    folders = {
        "train": extract_features(backbone, {"train": train}, tmp_path / "a", **CPU),
        "test": extract_features(backbone, {"items": test}, tmp_path / "b", **CPU),  # called otherwise by who made it
    }
    for split in ("train", "test"):
        np.testing.assert_array_equal(Features.open(both, split).cls, Features.open(folders, split).cls)
        assert Features.open(folders, split).label_names == NAMES
    assert sorted(splits_of(both)) == sorted(splits_of(folders)) == ["test", "train"]
    assert describe_features(folders)["splits"]["test"]["n"] == 2
    with pytest.raises(DataError, match="no features of the split 'val'; there are test, train"):
        Features.open(folders, "val")
    other = load_backbone(f"untrained:{backbone_folder}", "cpu")
    folders["test"] = extract_features(other, {"test": test}, tmp_path / "c", **CPU)
    with pytest.raises(DataError, match="test and train come from another key"):
        describe_features(folders)


def test_maps_keep_their_sizes(backbone, tmp_path):
    pool = MapPool(6)
    path = extract_features(backbone, {"all": pool}, tmp_path / "f", labelled=False, **CPU)
    found = Features.open(path, "all")
    assert [found.targets[row].shape for row in range(6)] == [(3 + row % 4, 5) for row in range(6)]
    for row in range(6):
        np.testing.assert_array_equal(found.targets[row], pool.target(row))
    assert found.task_info == {"min": 0, "max": 9} and found.label_names == ["x", "y"]
    assert isinstance(found.targets.flat, np.memmap)
    assert read_manifest(path)["splits"]["all"]["patches"] == 0


def test_networks_without_the_patches_that_are_asked_for(backbone, array_pool, tmp_path):
    pools = {"test": array_pool([0, 1, 2], NAMES)}
    with pytest.raises(ConfigError, match=r"backbone: .*4 blocks, and 3 of"):
        extract_features(backbone, pools, tmp_path / "f", patches=4, **CPU)
    pooled = load_backbone("untrained:torchvision:resnet18", "cpu")
    with pytest.raises(ConfigError, match=r"backbone: .*no patch tokens"):
        extract_features(pooled, pools, tmp_path / "f", patches=1, **CPU)
    with pytest.raises(ConfigError, match="processes"):
        extract_features(backbone, pools, tmp_path / "f", processes=0, **CPU)
    assert not list(tmp_path.iterdir())
