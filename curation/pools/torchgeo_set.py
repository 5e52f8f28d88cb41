"""Data sets of torchgeo whose items are numbered chips (``NonGeoDataset``): EuroSAT, RESISC45, BigEarthNet and 60 more."""

import contextlib
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, MissingExtraError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_items, digest_json
from strata.curation.pools.items import check_row, pool_name


class TorchGeoPool:
    """A torchgeo data set; an item is its sample's ``image``, [bands, height, width], in torchgeo's type (mostly float32).

    Classes are known where torchgeo has them without reading images (its ``NonGeoClassificationDataset``). torchgeo's
    ``GeoDataset`` is indexed by place and time and has no items: its rasters are read with ``RasterPool``.

    Args:
        dataset: class name in ``torchgeo.datasets``, or the dotted name of a class with the same interface.
        root: folder given to it.
        options: its other arguments, e.g. {split: train, bands: [B04, B03, B02]}. Nothing is fetched without its
            ``download: true``; an archive in ``root`` is unpacked there.
        name: defaults to the name of the class and the split.

    Raises:
        ConfigError: no such class, arguments that it refuses, or data that it does not find. MissingExtraError: no torchgeo.
    """

    kind: Kind = "tiles"

    def __init__(
        self, dataset: str, root: str, options: Mapping[str, Any] | None = None, name: str | None = None
    ) -> None:
        self.dataset, self._source, self._options = dataset, root, dict(options or {})
        self._data = _open(dataset, str(resolve_data_path(root, "pool.root")), self._options)
        self._stem = pool_name(None, dataset.rpartition(".")[2].lower(), self._options.get("split"))
        self.name = pool_name(name, self._stem)
        targets, classes = getattr(self._data, "targets", None), getattr(self._data, "classes", None)
        self.labels: NDArray[np.int64] | None = None if targets is None else np.asarray(targets, np.int64)
        self.label_names: list[str] | None = None if targets is None or not classes else [str(c) for c in classes]
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> Shaped[np.ndarray, "c h w"]:
        """The image at a row. IndexError past the end; UnreadableItem, also where an item is no single image."""
        index = check_row(row, len(self))
        try:
            sample = self._data[index]
        except Exception as error:  # of whatever library reads the data set's files
            raise UnreadableItem(row, self.ids[row], " ".join(str(error).split()) or type(error).__name__) from error
        image = np.asarray(sample["image"]) if "image" in sample else np.empty(0)
        if image.ndim != 3:
            found = {field: tuple(getattr(value, "shape", ())) for field, value in sample.items()}
            raise UnreadableItem(row, self.ids[row], f"it is no image [bands, height, width], but {found}")
        return image

    @property
    def ids(self) -> Sequence[str]:
        """``eurosat-train-00042``: the row in torchgeo's order."""
        return [f"{self._stem}-{row:05d}" for row in range(len(self))]

    @property
    def fingerprint(self) -> str:
        """Of the labels and the pixels, of 1,000 items where there is more than 1 GiB of pixels (see ``fingerprint.py``)."""
        if self._fingerprint is None:
            pixels = digest_items([""] * len(self), [self._item_bytes()] * len(self), self._digest)
            labels = None if self.labels is None else self.labels.tolist()
            self._fingerprint = digest_json({"reader": "torchgeo", "pixels": pixels, "labels": labels})
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Reader, data set, root as given, options."""
        return {"reader": "torchgeo", "dataset": self.dataset, "root": self._source, "options": self._options}

    def _item_bytes(self) -> int:
        for row in range(len(self)):
            with contextlib.suppress(UnreadableItem):
                return self[row].nbytes
        return 0

    def _digest(self, row: int) -> str:
        try:
            image = self[row]
        except UnreadableItem:
            return "unreadable"
        return hashlib.sha256(
            f"{image.shape}{image.dtype}".encode() + np.ascontiguousarray(image).tobytes()
        ).hexdigest()


def _open(dataset: str, root: str, options: Mapping[str, Any]) -> Any:
    module, _, name = dataset.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "torchgeo.datasets"), name, None)
        torchgeo = importlib.import_module("torchgeo.datasets")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "torchgeo":
            raise MissingExtraError("torchgeo", "torchgeo") from error
        raise ConfigError("pool.dataset", f"{module} cannot be imported: {error}", "give module.Class") from error
    if not isinstance(found, type) or issubclass(found, torchgeo.GeoDataset):
        problem = "is indexed by place, not by number" if isinstance(found, type) else "is no class"
        fix = "use a NonGeoDataset of torchgeo, or pool=rasters for rasters on earth"
        raise ConfigError("pool.dataset", f"{dataset} {problem}", fix)
    try:
        return found(root=root, **options)
    except (TypeError, ValueError, AssertionError) as error:  # torchgeo asserts what its arguments may be
        problem = f"{dict(options)} is refused by {dataset}: {' '.join(str(error).split()) or 'it says no more'}"
        raise ConfigError("pool.options", problem, "see the arguments in its documentation") from error
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            "pool.root", " ".join(str(error).split()), "give the folder that torchgeo put it in"
        ) from error
