import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.eval.backbone import load_backbone
from strata.eval.extract import extract_features
from strata.eval.features import Features

NAMES = ["a", "b", "c"]


@pytest.fixture
def backbone(backbone_folder):
    return load_backbone(backbone_folder, "cpu")


@pytest.fixture
def pools(array_pool):
    return {
        "train": array_pool(np.arange(13) % 3, NAMES, seed=1, name="toy-train"),
        "test": array_pool([2, 1, 0, 0, 2], NAMES, seed=2, name="toy-test"),
    }


def test_tokens_are_those_of_a_forward_pass_by_hand(backbone):
    images = torch.randn(5, 3, 16, 16)
    model = backbone.model
    with torch.no_grad():
        x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        expected = []
        for block in model.blocks:
            x = block(x)
            expected.append(model.norm(x))
    cls, avg = backbone.features(images)
    assert cls.shape == avg.shape == (5, 3, 12)  # fewer blocks than 4: all of them
    for i, tokens in enumerate(expected):
        torch.testing.assert_close(cls[:, i], tokens[:, 0])
        torch.testing.assert_close(avg[:, i], tokens[:, 3:].mean(1))  # neither class token nor the 2 registers


def test_transform_resizes_and_normalizes(backbone):
    image = Image.new("RGB", (40, 30), (51, 102, 204))
    found = backbone.transform(image)
    assert found.shape == (3, 16, 16)
    expected = (torch.tensor([0.2, 0.4, 0.8]) - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.25, 0.3])
    torch.testing.assert_close(found, expected[:, None, None].expand(3, 16, 16))


def test_transform_can_be_sent_to_a_worker(backbone):
    image = Image.new("RGB", (20, 20), (9, 99, 199))
    assert torch.equal(pickle.loads(pickle.dumps(backbone.transform))(image), backbone.transform(image))


def test_key_is_the_folders_or_a_digest_of_the_weights(backbone, backbone_folder, tmp_path):
    assert backbone.key == "abc123"
    bare = tmp_path / "bare"
    shutil.copytree(backbone_folder, bare)
    (bare / "manifest.json").unlink()
    assert load_backbone(bare, "cpu").key == f"sha256:{backbone.describe()['weights_sha256']}"


def test_random_timm_network_is_seeded():
    first = load_backbone("timm:test_vit", "cpu", pretrained=False, seed=1)
    assert first.key == load_backbone("timm:test_vit", "cpu", pretrained=False, seed=1).key
    assert first.key != load_backbone("timm:test_vit", "cpu", pretrained=False, seed=2).key
    assert first.features(torch.zeros(2, 3, 160, 160))[0].shape[0] == 2


@pytest.mark.parametrize("name", ["timm:no_such_network", "no-such-name", "/no/such/folder"])
def test_networks_that_cannot_be_probed(name):
    with pytest.raises(ConfigError) as caught:
        load_backbone(name, "cpu", pretrained=False)
    assert caught.value.field == "backbone"


def test_damaged_folder(backbone_folder, tmp_path):
    folder = tmp_path / "vit"
    shutil.copytree(backbone_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["depth"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="backbone"):
        load_backbone(folder, "cpu")


def test_folder_holds_the_features_of_each_split(backbone, pools, tmp_path):
    path = extract_features(
        backbone,
        pools,
        tmp_path / "f",
        key="k",
        inputs={"backbone": "abc123"},
        batch_size=4,
        device="cpu",
        dtype="float32",
    )
    for split, pool in pools.items():
        found = Features.open(path, split)
        cls, avg = backbone.features(torch.stack([backbone.transform(pool[row]) for row in range(len(pool))]))
        np.testing.assert_allclose(found.cls, cls, atol=1e-5)
        np.testing.assert_allclose(found.avg, avg, atol=1e-5)
        np.testing.assert_array_equal(found.labels, pool.labels)
        assert found.ids == pool.ids
        assert found.label_names == NAMES
        assert isinstance(found.cls, np.memmap)
    manifest = read_manifest(path, "features")
    assert manifest["backbone"]["key"] == "abc123"
    assert manifest["backbone"]["transform"]["size"] == [16, 16]
    assert {split: known["fingerprint"] for split, known in manifest["splits"].items()} == {
        split: pool.fingerprint for split, pool in pools.items()
    }
    assert sorted(file.name for file in (path / "train").iterdir()) == ["avg.npy", "cls.npy", "items.parquet"]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_does_not_matter(backbone, pools, tmp_path, batch_size):
    options = {"device": "cpu", "dtype": "float32"}
    reference = Features.open(extract_features(backbone, pools, tmp_path / "a", batch_size=3, **options), "train")
    path = extract_features(backbone, pools, tmp_path / "b", batch_size=batch_size, **options)
    np.testing.assert_allclose(Features.open(path, "train").cls, reference.cls, atol=1e-5)


def test_float16_is_the_rounded_float32(backbone, pools, tmp_path):
    full = Features.open(extract_features(backbone, pools, tmp_path / "a", device="cpu", dtype="float32"), "test")
    half = Features.open(extract_features(backbone, pools, tmp_path / "b", device="cpu", dtype="float16"), "test")
    assert half.cls.dtype == np.float16
    np.testing.assert_array_equal(half.cls, full.cls.astype(np.float16))


class Killed(RuntimeError):
    pass


def test_resume_keeps_finished_splits(backbone, pools, tmp_path, monkeypatch):
    whole = extract_features(backbone, pools, tmp_path / "whole", device="cpu")
    test_pool = pools["test"]
    monkeypatch.setattr(type(test_pool), "__getitem__", _dies_on(test_pool, type(test_pool).__getitem__))
    with pytest.raises(Killed):
        extract_features(backbone, pools, tmp_path / "f", key="k", device="cpu")
    assert not (tmp_path / "f").exists()
    monkeypatch.undo()
    pools["train"].reads = 0
    path = extract_features(backbone, pools, tmp_path / "f", key="k", device="cpu")
    assert pools["train"].reads == 0
    for split in pools:
        np.testing.assert_array_equal(Features.open(path, split).cls, Features.open(whole, split).cls)


def test_resume_redoes_a_split_whose_pool_changed(backbone, pools, tmp_path, monkeypatch, array_pool):
    test_pool = pools["test"]
    monkeypatch.setattr(type(test_pool), "__getitem__", _dies_on(test_pool, type(test_pool).__getitem__))
    with pytest.raises(Killed):
        extract_features(backbone, pools, tmp_path / "f", key="k", device="cpu")
    monkeypatch.undo()
    pools["train"] = array_pool([0, 1], NAMES, seed=9)
    path = extract_features(backbone, pools, tmp_path / "f", key="k", device="cpu")
    assert len(Features.open(path, "train")) == 2


def _dies_on(pool, read):
    def getitem(self, row):
        if self is pool and row == 3:
            raise Killed
        return read(self, row)

    return getitem


def test_labels_are_checked_before_any_work(backbone, pools, tmp_path, array_pool):
    def refuses(error, match, **changed):
        with pytest.raises(error, match=match):
            extract_features(backbone, pools | changed, tmp_path / "f", device="cpu")
        assert not (tmp_path / "f.partial").exists()

    refuses(ConfigError, r"benchmark\.test: .*no labels", test=array_pool(None, None))
    refuses(ConfigError, r"benchmark\.test: .*no items", test=array_pool([], NAMES))
    refuses(
        DataError, r"benchmark\.test: 1 of 3 items .*outside the 3 classes.*row 1", test=array_pool([0, 3, 1], NAMES)
    )
    refuses(DataError, r"benchmark\.train: 2 of 3 items .*no label, first row 0", train=array_pool([-1, 0, -1], NAMES))
    refuses(DataError, r"class 1 is 'b' in train and 'x' in test", test=array_pool([0, 1], ["a", "x", "c"]))
    refuses(DataError, r"3 and 2 of them", test=array_pool([0, 1], ["a", "b"]))


def test_bad_settings(backbone, pools, tmp_path):
    for field, value in {"batch_size": 0, "num_workers": -1, "dtype": "float64", "device": "abacus"}.items():
        with pytest.raises(ConfigError) as caught:
            extract_features(backbone, pools, tmp_path / "f", **{"device": "cpu"} | {field: value})
        assert caught.value.field == field


def test_features_that_are_not_finite(backbone_folder, pools, tmp_path):
    broken = load_backbone(backbone_folder, "cpu")
    broken.model.norm.bias.data[0] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        extract_features(broken, pools, tmp_path / "f", device="cpu")


def test_open_refuses_what_is_not_there(backbone, pools, tmp_path):
    path = extract_features(backbone, pools, tmp_path / "f", device="cpu")
    with pytest.raises(DataError, match="no split 'val'; it holds test, train"):
        Features.open(path, "val")
    with pytest.raises(DataError, match="not a finished artifact"):
        Features.open(tmp_path, "train")
