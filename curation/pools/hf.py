"""Images or texts of Hugging Face ``datasets``: a hub id, a folder saved with ``save_to_disk``, or local files."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_items, digest_json
from strata.curation.pools.hf_load import load, local_folder
from strata.curation.pools.items import check_row, decode_image, pool_name, unique_ids


class HFDatasetPool:
    """A split of a ``datasets.Dataset`` with encoded images, or texts. Arrow files are memory-mapped by every process.

    A path that exists (in the working directory or under ``data_root()``) is read locally, without network:
    ``load_from_disk`` where ``save_to_disk`` wrote it, otherwise ``load_dataset`` on its files. Anything else is a hub
    id, fetched into the ``datasets`` cache. The id of an item is its image's path relative to the folder, its file
    name if it lies elsewhere, or ``<split>:<row>``.

    Args:
        path: local folder or hub id, e.g. "uoft-cs/cifar10".
        split: e.g. "train" or "train[:10%]"; None for a folder that holds one data set without splits.
        image_column: an ``Image`` column, or binary.
        text_column: a string column: the items are its texts, and ``image_column`` is not read.
        label_column: ``ClassLabel`` or integer column, or None for a pool without labels. A null is -1.
        id_column: column with ids, instead of the images' paths.
        config_name: the data set's configuration, for those that have several.
        revision: branch, tag or commit of a hub data set; give a commit to fix what a run reads.
        cache_dir: where ``datasets`` keeps its Arrow files; by default its own (``HF_HOME``).
        name: defaults to ``<last part of path>-<split>``.

    Raises:
        ConfigError: the path, split or a column is wrong, or the hub cannot be reached.
    """

    def __init__(
        self,
        path: str,
        split: str | None,
        name: str | None = None,
        image_column: str = "image",
        label_column: str | None = "label",
        id_column: str | None = None,
        config_name: str | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        text_column: str | None = None,
    ) -> None:
        self._source, self.split, self._config_name, self._revision = path, split, config_name, revision
        self.kind: Kind = "images" if text_column is None else "text"
        self._item_column = image_column if text_column is None else text_column
        self._label_column, self._id_column = label_column, id_column
        self._folder = local_folder(path)
        data = load(path, self._folder, split, config_name, revision, cache_dir)
        _check_columns(data, self.kind, self._item_column, label_column, id_column)
        self._data = _undecoded(data, self._item_column)
        self.name = pool_name(name, Path(path).name, split)
        self.labels: NDArray[np.int64] | None = None
        self.label_names: list[str] | None = None
        if label_column is not None:
            self.labels = self.column(label_column).astype(np.int64)
            names = getattr(data.features[label_column], "names", None)
            self.label_names = list(names) if names else None
        self._ids: list[str] | None = None
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> Image.Image | str:
        """The image (RGB) or text at a row.

        Raises:
            UnreadableItem: it is null or empty, its file is gone, or it cannot be decoded.
            IndexError: there is no such row.
        """
        data = self.encoded(row)
        if self.kind == "text":
            if not data.strip():
                raise UnreadableItem(row, self.ids[row], "the text is empty")
            return data.decode()
        try:
            return decode_image(data, row, "")
        except UnreadableItem as error:  # the ids are read only when one has to be told
            raise UnreadableItem(row, self.ids[row], error.why) from error

    def encoded(self, row: int) -> bytes:
        """The bytes of an image as they are stored, or a text as UTF-8. Raises UnreadableItem if its file is gone."""
        row = check_row(row, len(self))
        try:
            return self._encoded(row)
        except OSError as error:  # the image is a file of its own, and gone
            raise UnreadableItem(row, self.ids[row], str(error)) from error

    @property
    def ids(self) -> Sequence[str]:
        """Id column, image path, or ``<split>:<row>``; made unique."""
        if self._ids is None:
            found: list[str] = []
            if self._id_column is not None:
                found = [str(value) for value in self.column(self._id_column)]
            else:
                paths = (path for _, batch in self._batches() for path in batch)
                found = [self._relative(path) or f"{self.split or 'row'}:{row}" for row, path in enumerate(paths)]
            self._ids = unique_ids(found)
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of ids, byte sizes, encoded images (by the rule for trees in ``fingerprint.py``) and labels."""
        if self._fingerprint is None:
            sizes = [size for batch, _ in self._batches() for size in batch]
            images = digest_items(self.ids, sizes, self._digest)
            labels = None if self.labels is None else hashlib.sha256(self.labels.tobytes()).hexdigest()
            self._fingerprint = digest_json({"reader": "hf", "images": images, "labels": labels})
        return self._fingerprint

    def column(self, name: str) -> NDArray[Any]:
        """Another column of the split, [n], in row order; null integers are -1.

        Raises:
            ConfigError: there is no such column.
        """
        if name not in self._data.column_names:
            raise ConfigError(
                "column", f"{name!r} is not in {self._source}", f"choose one of {self._data.column_names}"
            )
        values = self._data.select_columns([name]).with_format("arrow")[:][name]
        if values.null_count and pa.types.is_integer(values.type):
            values = pc.fill_null(values, -1)
        return values.to_numpy()

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, split and options."""
        return {
            "reader": "hf",
            "path": str(self._source),
            "split": self.split,
            "config_name": self._config_name,
            "revision": self._revision,
            f"{self.kind.removesuffix('s')}_column": self._item_column,
            "label_column": self._label_column,
            "id_column": self._id_column,
        }

    def _encoded(self, row: int) -> bytes:
        """Bytes of an item; empty if there are none. Raises OSError if its file cannot be read."""
        value = self._data[row][self._item_column]
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            data: bytes | None = value.get("bytes")
            return Path(value["path"]).read_bytes() if data is None and value.get("path") else (data or b"")
        return value or b""

    def _digest(self, row: int) -> str:
        try:
            return hashlib.sha256(self._encoded(row)).hexdigest()
        except OSError:
            return "unreadable"

    def _batches(self) -> Iterator[tuple[list[int], list[str | None]]]:
        """Byte sizes and paths of the images, without copying the images."""
        images = self._data.select_columns([self._item_column]).with_format("arrow")
        for table in images.iter(batch_size=1000):
            column = table[self._item_column]
            paths: list[str | None] = [None] * len(column)
            if pa.types.is_struct(column.type):
                paths = pc.struct_field(column, "path").to_pylist()
                column = pc.struct_field(column, "bytes")
            lengths = pc.binary_length(column).to_pylist()
            yield [_size(length, path) for length, path in zip(lengths, paths, strict=True)], paths

    def _relative(self, path: str | None) -> str | None:
        if not path:
            return None
        if self._folder is not None and Path(path).is_relative_to(self._folder):
            return Path(path).relative_to(self._folder).as_posix()
        return Path(path).name if Path(path).is_absolute() or "://" in path else path


def _undecoded(data: Any, column: str) -> Any:
    """The data set with the image column as stored: {bytes, path} or binary."""
    import datasets

    if isinstance(data.features[column], datasets.Image):
        return data.cast_column(column, datasets.Image(decode=False))
    return data


def _check_columns(data: Any, kind: Kind, item: str, label: str | None, item_id: str | None) -> None:
    import datasets

    item_field = f"{kind.removesuffix('s')}_column"
    for field, name in ((item_field, item), ("label_column", label), ("id_column", item_id)):
        if name is not None and name not in data.column_names:
            fix = f"choose one of {data.column_names}"
            fix += ", or null for a pool without labels" if field == "label_column" else ""
            raise ConfigError(f"pool.{field}", f"{name!r} is not a column", fix)
    feature = data.features[item]
    dtype = getattr(feature, "dtype", "")
    if kind == "text" and dtype not in ("string", "large_string"):
        raise ConfigError("pool.text_column", f"{item!r} is {feature}", "choose a string column")
    if kind == "images" and not isinstance(feature, datasets.Image) and dtype not in ("binary", "large_binary"):
        raise ConfigError("pool.image_column", f"{item!r} is {feature}", "choose an Image or binary column")
    if label is not None and "int" not in str(getattr(data.features[label], "dtype", "")):
        raise ConfigError("pool.label_column", f"{label!r} is {data.features[label]}", "choose integers, or null")


def _size(length: int | None, path: str | None) -> int:
    """Bytes of an encoded image; 0 where it is neither in the table nor in a file that can be read."""
    if length is not None:
        return length
    return Path(path).stat().st_size if path and Path(path).is_file() else 0
