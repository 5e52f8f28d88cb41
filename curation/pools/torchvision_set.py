"""Data sets that torchvision reads into memory: CIFAR, MNIST and their kin."""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row, pool_name

DATASETS = ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "USPS", "SVHN", "STL10")


class TorchvisionPool:
    """One of ``DATASETS`` as torchvision stores it under ``root``.

    torchvision checks the MD5 of the CIFAR archives before it opens them. Sets that torchvision keeps as image files
    (Food101, Flowers102, ...) are better read with ``ImageFolderPool`` or ``HFDatasetPool``. The data are not sent to
    worker processes: each opens them again.

    Args:
        dataset: class name in ``torchvision.datasets``, one of ``DATASETS``.
        root: folder given to torchvision.
        train: for the sets with two halves (all but SVHN and STL10).
        split: for SVHN ("train", "test", "extra") and STL10 ("train", "test", "unlabeled", "train+unlabeled");
            by default "train" or "test", as ``train`` says.
        download: fetch it if it is not there. Nothing is ever fetched without this.
        name: defaults to ``<dataset>-<split>`` in lower case.

    Raises:
        ConfigError: an unknown set or split, or it is not there and ``download`` is off.
    """

    def __init__(
        self,
        dataset: str,
        root: str,
        train: bool = True,
        split: str | None = None,
        download: bool = False,
        name: str | None = None,
    ) -> None:
        if dataset not in DATASETS:
            raise ConfigError("pool.dataset", f"is {dataset!r}", f"choose one of {list(DATASETS)}")
        if split is not None and not _takes_split(dataset):
            raise ConfigError("pool.split", f"{dataset} has no named splits", "set pool.train instead")
        self.dataset, self.train, self._source = dataset, train, root
        self.split = split if split is not None else ("train" if train else "test")
        if download:
            self._root = Path(root).expanduser().resolve()
            self._root.mkdir(parents=True, exist_ok=True)
        else:
            self._root = resolve_data_path(root, "pool.root")
        self._data: Any = self._open(download)
        self._n = len(self._data)
        self.name = pool_name(name, dataset.lower(), self.split)
        self.labels: NDArray[np.int64] | None = None
        labels = np.asarray(getattr(self._data, "targets", getattr(self._data, "labels", None)), dtype=np.int64)
        if (labels >= 0).any():
            self.labels = labels
        names = getattr(self._data, "classes", None)
        self.label_names: list[str] | None = [str(label) for label in names] if names else None
        self._ids: list[str] | None = None
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: int) -> Image.Image:
        """The image at a row, RGB. IndexError past the end."""
        index = check_row(row, self._n)
        if self._data is None:
            self._data = self._open(download=False)
        image: Image.Image = self._data[index][0]
        return image.convert("RGB")

    @property
    def ids(self) -> Sequence[str]:
        """``cifar10-train-00042``: the row in the official order."""
        if self._ids is None:
            self._ids = [f"{self.dataset.lower()}-{self.split}-{row:05d}" for row in range(self._n)]
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of all pixels and labels."""
        if self._fingerprint is None:
            data = self._data if self._data is not None else self._open(download=False)
            pixels = hashlib.sha256(np.ascontiguousarray(np.asarray(data.data)).tobytes()).hexdigest()
            labels = None if self.labels is None else hashlib.sha256(self.labels.tobytes()).hexdigest()
            self._fingerprint = digest_json({"reader": "torchvision", "pixels": pixels, "labels": labels})
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Reader, data set, split, root as given."""
        return {"reader": "torchvision", "dataset": self.dataset, "split": self.split, "root": str(self._source)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None}

    def _open(self, download: bool) -> Any:
        from torchvision import datasets

        which = {"split": self.split} if _takes_split(self.dataset) else {"train": self.train}
        try:
            return getattr(datasets, self.dataset)(root=str(self._root), download=download, **which)
        except ValueError as error:
            raise ConfigError("pool.split", f"is {self.split!r}", f"{self.dataset} says: {error}") from error
        except (RuntimeError, OSError) as error:
            problem = f"{self.dataset} ({self.split}) cannot be opened in {self._root}: {str(error).splitlines()[0]}"
            fix = "check the network" if download else "set pool.download=true to fetch it, or give another folder"
            raise ConfigError("pool.root", problem, fix) from error


def _takes_split(dataset: str) -> bool:
    from torchvision import datasets

    return "split" in inspect.signature(getattr(datasets, dataset).__init__).parameters
