"""WebDataset shards: plain tars of samples, read at random through an index of their offsets."""

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.find import find_files
from strata.curation.pools.fingerprint import digest_file, digest_json
from strata.curation.pools.items import check_row, decode_image, pool_name, unique_ids
from strata.curation.pools.label_values import LateLabels
from strata.curation.pools.tar_index import Sample, read_samples

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "ppm", "gif", "bmp", "tif", "tiff")
TEXT_ENDINGS = ("txt",)
_OPEN_SHARDS = 64  # file descriptors per process
_NOWHERE = (-1, -1)


class WebDatasetPool(LateLabels):
    """Samples of plain ``.tar`` shards, without unpacking them. The package ``webdataset`` is not needed.

    Opening reads the tar headers. A sample is what neighboring members of one key make; its item is its member with an
    ending of ``IMAGE_ENDINGS`` or ``TEXT_ENDINGS``, and one without is unreadable. Its id is the key, a repeated one
    marked ``#2``. Its label is its ``.cls`` (a number or a name), or else the field ``label_field`` of its ``.json``.

    Args:
        path: a shard, a folder of shards, or a glob; shards follow each other by name.
        item: "images", "text", or "auto": images if the first sample with either has one.
        label_field: field of ``.json``, or None for a pool without labels (``.cls`` is not read either).
        name: defaults to the name of the folder.

    Raises:
        ConfigError: no shards, or no samples in them. DataError: a shard is compressed, damaged or cut short.
    """

    def __init__(
        self,
        path: str,
        item: Literal["auto", "images", "text"] = "auto",
        label_field: str | None = "label",
        name: str | None = None,
    ) -> None:
        if item not in ("auto", "images", "text"):
            raise ConfigError("pool.item", f"is {item!r}", "choose auto, images or text")
        self._source, self._label_field = path, label_field
        self._shards = find_files(path, (".tar",))
        samples = [(i, sample) for i, shard in enumerate(self._shards) for sample in read_samples(shard)]
        if not samples:
            raise ConfigError(
                "pool.path", f"{self._shards[0]} holds no sample", "give tars with files KEY.jpg or KEY.txt"
            )
        self.kind: Kind = _kind_of([sample for _, sample in samples]) if item == "auto" else item
        endings = IMAGE_ENDINGS if self.kind == "images" else TEXT_ENDINGS
        self._shard = np.array([shard for shard, _ in samples], np.int32)
        # First byte and size of the item, of .cls and of .json; -1 where there is none.
        self._places = np.array(
            [[_part(s, endings), _part(s, ("cls",)), _part(s, ("json",))] for _, s in samples], np.int64
        )
        self._ids = unique_ids(sample.key.encode(errors="backslashreplace").decode() for _, sample in samples)
        self.name = pool_name(name, self._shards[0].stem if len(self._shards) == 1 else self._shards[0].parent.name)
        self._fingerprint: str | None = None
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Image.Image | str:
        """The image (RGB) or text at a row.

        Raises:
            UnreadableItem: the sample has no such member, or it cannot be decoded.
            IndexError: there is no such row.
        """
        data = self.encoded(row)
        if self.kind == "images":
            return decode_image(data, row, self._ids[row])
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UnreadableItem(row, self._ids[row], f"no UTF-8: {error}") from error
        if not text.strip():
            raise UnreadableItem(row, self._ids[row], "the text is empty")
        return text

    @property
    def ids(self) -> Sequence[str]:
        """``__key__`` of each sample, made unique."""
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the shards' names and content (see ``fingerprint.py``), and of what is read from them."""
        if self._fingerprint is None:
            shards = [[shard.name, digest_file(shard)] for shard in self._shards]
            read = {"reader": "webdataset", "item": self.kind, "label_field": self._label_field}
            self._fingerprint = digest_json({**read, "shards": shards})
        return self._fingerprint

    def encoded(self, row: int) -> bytes:
        """The bytes of the image or text as they are in the shard. Raises UnreadableItem if the sample has none."""
        row = check_row(row, len(self))
        place = self._places[row, 0]
        if place[0] < 0:
            endings = IMAGE_ENDINGS if self.kind == "images" else TEXT_ENDINGS
            raise UnreadableItem(row, self._ids[row], f"the sample has no member ending in {', '.join(endings)}")
        return self._read(row, place)

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, options."""
        return {
            "reader": "webdataset",
            "path": str(self._source),
            "n_shards": len(self._shards),
            "item": self.kind,
            "label_field": self._label_field,
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)

    def _read(self, row: int, place: NDArray[np.int64]) -> bytes:
        """Bytes at (offset, size) of the row's shard. ``pread`` has no position, so threads do not disturb each other."""
        shard = int(self._shard[row])
        try:
            if shard not in self._open:
                self._open[shard] = os.open(self._shards[shard], os.O_RDONLY)
                if len(self._open) > _OPEN_SHARDS:
                    os.close(self._open.popitem(last=False)[1])
            self._open.move_to_end(shard)
            data = os.pread(self._open[shard], int(place[1]), int(place[0]))
        except OSError as error:
            raise UnreadableItem(row, self._ids[row], error.strerror or str(error)) from error
        if len(data) < place[1]:
            raise UnreadableItem(row, self._ids[row], f"{self._shards[shard]} is cut short")
        return data

    def _label_values(self) -> Sequence[Any]:
        """See ``LateLabels``."""
        return [] if self._label_field is None else [self._label(row) for row in range(len(self))]

    def _label(self, row: int) -> int | str | None:
        """What ``.cls`` or ``.json`` says. A ``.json`` that is damaged says nothing: the item itself may be sound."""
        cls, sidecar = self._places[row, 1], self._places[row, 2]
        if cls[0] >= 0:
            text = self._read(row, cls).decode(errors="replace").strip()
            return int(text) if text.lstrip("-").isdecimal() and text.isascii() else text or None
        if sidecar[0] < 0:
            return None
        try:
            record = json.loads(self._read(row, sidecar))
        except ValueError:
            return None
        return record.get(self._label_field) if isinstance(record, dict) else None


def _part(sample: Sample, endings: Sequence[str]) -> tuple[int, int]:
    """(offset, size) of the member with the first of the endings that the sample has; -1 if it has none."""
    return next((sample.parts[ending] for ending in endings if ending in sample.parts), _NOWHERE)


def _kind_of(samples: Sequence[Sample]) -> Kind:
    for sample in samples:
        if _part(sample, IMAGE_ENDINGS) != _NOWHERE:
            return "images"
        if _part(sample, TEXT_ENDINGS) != _NOWHERE:
            return "text"
    found = sorted({ending for sample in samples for ending in sample.parts})[:10]
    raise ConfigError(
        "pool.item",
        f"no sample has an image or text; the endings are {', '.join(found)}",
        "write jpg, png, webp or txt",
    )
