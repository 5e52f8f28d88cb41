"""torchvision's in-memory sets, in the layout in which they are published."""

import pickle
import struct

import numpy as np
import pytest
from scipy.io import savemat

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.torchvision_set import TorchvisionPool


def write_idx(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    images = {}
    for half, word, n in (("train", "train", 5), ("test", "t10k", 3)):
        images[half] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        raw = tmp_path / "tv" / "FashionMNIST" / "raw"
        write_idx(raw / f"{word}-images-idx3-ubyte", images[half])
        write_idx(raw / f"{word}-labels-idx1-ubyte", np.arange(n) % 10)
    return str(tmp_path / "tv"), images


def test_reads_the_published_layout(fashion):
    root, images = fashion
    pool = TorchvisionPool("FashionMNIST", root)
    assert isinstance(pool, Pool) and len(pool) == 5 and pool.name == "fashionmnist-train"
    assert (np.asarray(pool[4]) == images["train"][4][..., None]).all() and pool[4].mode == "RGB"
    assert pool.labels.tolist() == [0, 1, 2, 3, 4] and pool.label_names[1] == "Trouser"
    assert pool.ids[4] == "fashionmnist-train-00004"
    test = TorchvisionPool("FashionMNIST", root, train=False)
    assert len(test) == 3 and test.fingerprint != pool.fingerprint


def test_pickle_leaves_the_data_behind(fashion):
    pool = TorchvisionPool("FashionMNIST", fashion[0])
    copy = pickle.loads(pickle.dumps(pool))
    assert copy._data is None and len(copy) == 5
    assert copy[2].tobytes() == pool[2].tobytes() and copy.fingerprint == pool.fingerprint


def test_nothing_is_fetched_unasked(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(ConfigError, match=r"pool\.root: CIFAR10 \(train\) cannot be opened.*pool\.download=true"):
        TorchvisionPool("CIFAR10", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pool\.root"):
        TorchvisionPool("CIFAR10", str(tmp_path / "none"))


def test_named_splits(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    (tmp_path / "sv").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    savemat(tmp_path / "sv/test_32x32.mat", {"X": images, "y": np.array([[1], [10], [2], [3]])})
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)  # the MD5 of the full file
    pool = TorchvisionPool("SVHN", str(tmp_path / "sv"), train=False)
    assert pool.split == "test" and pool.labels.tolist() == [1, 0, 2, 3]
    assert (np.asarray(pool[3]) == images[..., 3]).all()
    with pytest.raises(ConfigError, match=r"pool\.split"):
        TorchvisionPool("SVHN", str(tmp_path / "sv"), split="validation")


def test_bad_settings(fashion):
    with pytest.raises(ConfigError, match=r"pool\.dataset: is 'ImageNet'.*CIFAR100"):
        TorchvisionPool("ImageNet", fashion[0])
    with pytest.raises(ConfigError, match=r"pool\.split.*pool\.train"):
        TorchvisionPool("FashionMNIST", fashion[0], split="train")
