"""torchgeo's numbered chips as a pool: by a stand-in with its interface, and by the package itself where it is."""

import importlib.util
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from geotiff import write_geotiff
from torch.utils.data import Dataset

from strata.curation.encoders.band_pca import BandPCA
from strata.curation.errors import ConfigError, MissingExtraError
from strata.curation.pools.band_statistics import band_statistics
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.content import check_reads, kind_of
from strata.curation.pools.torchgeo_set import TorchGeoPool


class GeoDataset(Dataset):
    """Indexed by place and time."""


class Chips(Dataset):
    """Samples as torchgeo's: float32 [bands, h, w] under "image", a number under "label"; classes by folder."""

    classes = ("forest", "lake")

    def __init__(self, root, split="train", broken=(), download=False):
        assert split in ("train", "test")
        if not list(Path(root).iterdir()):
            raise FileNotFoundError(f"Dataset not found in `root={root!r}` and `download=False`")
        self.seed, self.broken = 0 if split == "train" else 1, broken
        self.targets = [row % 2 for row in range(12)]

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError(f"chip {index} is\ncut short")
        return {"image": chip(index, self.seed), "label": torch.tensor(index % 2)}


class Pairs(Chips):
    """Two images a sample."""

    def __getitem__(self, index):
        return {"image1": chip(index, 0), "image2": chip(index, 1)}


def chip(row, seed):
    return torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(100 * seed + row)) * 3000


@pytest.fixture
def root(tmp_path, monkeypatch):
    datasets = SimpleNamespace(Chips=Chips, Pairs=Pairs, GeoDataset=GeoDataset, Rasters=type("R", (GeoDataset,), {}))
    monkeypatch.setitem(sys.modules, "torchgeo", SimpleNamespace(datasets=datasets))
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", datasets)
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "chips.bin").touch()
    return str(tmp_path / "chips")


def test_items_labels_and_ids(root):
    pool = TorchGeoPool("Chips", root, {"split": "test"})
    assert isinstance(pool, Pool) and len(pool) == 12 and kind_of(pool) == "tiles" and pool.name == "chips-test"
    np.testing.assert_array_equal(pool[3], chip(3, 1).numpy())
    assert pool[3].dtype == np.float32 and pool.ids[3] == "chips-test-00003" and len(set(pool.ids)) == 12
    assert pool.labels.tolist() == [0, 1] * 6 and pool.label_names == ["forest", "lake"]
    assert pool.describe() == {"reader": "torchgeo", "dataset": "Chips", "root": root, "options": {"split": "test"}}
    with pytest.raises(IndexError):
        pool[12]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pool))[3], pool[3])


def test_the_fingerprint_is_of_the_content(root):
    pool = TorchGeoPool("Chips", root)
    again = TorchGeoPool("torchgeo.datasets.Chips", root, name="mine")
    assert again.name == "mine" and again.ids == pool.ids and again.fingerprint == pool.fingerprint
    others = [TorchGeoPool("Chips", root, {"split": "test"}), TorchGeoPool("Chips", root, {"broken": (0,)})]
    assert len({pool.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_an_encoder_of_bands_reads_it(root, tmp_path):
    pool = TorchGeoPool("Chips", root)
    encoder = BandPCA(bands=5, n_components=4)
    check_reads(pool, encoder)
    encoder.fit(pool, tmp_path)
    assert encoder.encode(torch.stack([encoder.transform(pool[row]) for row in range(3)])).shape == (3, 4)
    values = np.stack([pool[row] for row in range(12)])
    np.testing.assert_allclose(band_statistics(pool).mean, values.mean(axis=(0, 2, 3)), rtol=1e-5)


def test_what_cannot_be_read_is_named(root):
    with pytest.raises(UnreadableItem, match=r"'chips-00003' \(row 3\) cannot be read: chip 3 is cut short"):
        TorchGeoPool("Chips", root, {"broken": [3]})[3]
    with pytest.raises(UnreadableItem, match=r"no image \[bands, height, width\], but {'image1': \(5, 8, 8\)"):
        TorchGeoPool("Pairs", root)[0]


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ("Chipz", {}, r"pool\.dataset: Chipz is no class"),
        ("Rasters", {}, r"pool\.dataset: Rasters is indexed by place.*pool=rasters"),
        ("no.such.Class", {}, r"pool\.dataset: no\.such cannot be imported"),
        ("Chips", {"split": "val"}, r"pool\.options: {'split': 'val'} is refused"),
        ("Chips", {"bands": [1]}, r"pool\.options: .*unexpected keyword argument 'bands'"),
    ],
)
def test_bad_settings(root, dataset, options, said):
    with pytest.raises(ConfigError, match=said):
        TorchGeoPool(dataset, root, options)


def test_bad_places(root, tmp_path):
    with pytest.raises(ConfigError, match=r"pool\.root: .*nowhere does not exist"):
        TorchGeoPool("Chips", f"{root}/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"pool\.root: Dataset not found"):
        TorchGeoPool("Chips", str(tmp_path / "empty"))


def test_without_torchgeo_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    monkeypatch.delitem(sys.modules, "torchgeo.datasets", raising=False)
    with pytest.raises(MissingExtraError, match=r"strata\[torchgeo\]"):
        TorchGeoPool("EuroSAT", str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("torchgeo") is None, reason="torchgeo is not installed: strata[torchgeo]")
def test_the_package_itself(tmp_path):
    """EuroSAT's own reader over a made-up tree of its layout."""
    from torchgeo.datasets import EuroSAT

    rng = np.random.default_rng(0)
    names = {
        place: rng.integers(0, 9000, (13, 64, 64)).astype(np.uint16) for place in ("Forest_1", "Forest_2", "River_1")
    }
    for name, values in names.items():
        write_geotiff(tmp_path / EuroSAT.base_dir / name.split("_")[0] / f"{name}.tif", values)
    (tmp_path / EuroSAT.split_filenames["train"]).write_text("\n".join(f"{name}.jpg" for name in names) + "\n")
    pool = TorchGeoPool("EuroSAT", str(tmp_path))
    assert len(pool) == 3 and pool.labels.tolist() == [0, 0, 1] and pool.label_names == ["Forest", "River"]
    np.testing.assert_array_equal(pool[2], names["River_1"])
    assert pool.fingerprint == pickle.loads(pickle.dumps(pool)).fingerprint
    red = TorchGeoPool("torchgeo.datasets.EuroSAT", str(tmp_path), {"bands": ["B04"]})
    np.testing.assert_array_equal(red[0], names["Forest_1"][[3]])
    with pytest.raises(ConfigError, match=r"pool\.options: .*'B99' is an invalid band name"):
        TorchGeoPool("EuroSAT", str(tmp_path), {"bands": ["B99"]})
    with pytest.raises(ConfigError, match=r"pool\.root: Dataset not found"):
        TorchGeoPool("EuroSAT", str(tmp_path), {"split": "test"})
    with pytest.raises(ConfigError, match="pool=rasters"):
        TorchGeoPool("Sentinel2", str(tmp_path))
