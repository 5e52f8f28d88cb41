"""Images or texts in Parquet shards, as the Hugging Face Hub stores them."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.fingerprint import digest_file, digest_json
from strata.curation.pools.items import check_row, decode_image, pool_name, unique_ids
from strata.curation.pools.parquet_files import class_names, find_shards, is_image_column, open_shard


class ParquetPool:
    """A split ``<path>/<split>-00000-of-0000N.parquet`` with encoded images, or texts, in a column.

    Opening reads footers and the label column. Image bytes are read by row group, through a memory map, when an item of
    the group is asked for, and kept up to ``cache_mib`` per process: a pool that fits is unpacked once and then served
    from memory; a larger one is best read in nearly sorted order.

    Args:
        path: folder of the shards, or one file; relative ones are looked up in the working directory, then in
            ``data_root()``.
        split: first part of the file names, e.g. "train". All shards 0 .. N-1 must be there. None: one file, or all
            ``.parquet`` files of the folder by name, whatever they are called.
        image_column: struct{bytes, path} (Hugging Face ``Image``) or plain binary.
        text_column: a string column: the items are its texts, and ``image_column`` is not read.
        label_column: integer column, or None for a pool without labels. A null is -1.
        id_column: column with ids; by default the image's path, or ``<shard>:<row>`` where it has none.
        name: defaults to ``<folder>-<split>``.
        cache_mib: bytes of unpacked row groups that one process keeps, in MiB.

    Raises:
        ConfigError: no such folder, split or column.
        DataError: a shard is missing, is cut short, or its columns are not of the types above.
    """

    def __init__(
        self,
        path: str,
        split: str | None,
        image_column: str = "image",
        label_column: str | None = "label",
        id_column: str | None = None,
        name: str | None = None,
        cache_mib: int = 1024,
        text_column: str | None = None,
    ) -> None:
        self._source = path
        self._folder = resolve_data_path(path)
        self.split = split
        self.kind: Kind = "images" if text_column is None else "text"
        self._item_column = image_column if text_column is None else text_column
        self._label_column, self._id_column = label_column, id_column
        if cache_mib < 1:
            raise ConfigError("pool.cache_mib", f"is {cache_mib}", "give at least 1")
        self._cache_bytes = cache_mib * 2**20
        self._paths = find_shards(self._folder, split)
        self._files: dict[int, pq.ParquetFile] = {}
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._held = 0  # bytes in self._groups
        self._ids: list[str] | None = None
        self._fingerprint: str | None = None
        self._schema = self._file(0).schema_arrow
        self._check_columns()
        self._where, self._ends = self._row_groups()
        self.name = pool_name(name, self._folder.stem if self._folder.is_file() else self._folder.name, split)
        self.labels: NDArray[np.int64] | None = None
        self.label_names: list[str] | None = None
        if label_column is not None:
            self.labels = self.column(label_column).astype(np.int64)
            self.label_names = class_names(self._schema, label_column)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> Image.Image | str:
        """The image (RGB) or text at a row.

        Raises:
            UnreadableItem: it is null, empty, or cannot be decoded.
            IndexError: there is no such row.
        """
        value = self._value(row)
        if isinstance(value, str):
            if not value.strip():
                raise UnreadableItem(row, self.ids[row], "the text is empty")
            return value
        try:
            return decode_image(value, row, "")
        except UnreadableItem as error:  # the ids are read only when one has to be told
            raise UnreadableItem(row, self.ids[row], error.why) from error

    def encoded(self, row: int) -> bytes:
        """The bytes of an image as they are stored, or a text as UTF-8. Raises UnreadableItem if it is null."""
        value = self._value(row)
        return value.encode() if isinstance(value, str) else value

    @property
    def ids(self) -> Sequence[str]:
        """Id column or image path, made unique; ``<shard>:<row>`` where there is none."""
        if self._ids is None:
            self._ids = self._read_ids()
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the shards' names and content (see ``fingerprint.py``) and the columns read."""
        if self._fingerprint is None:
            shards = [[path.name, digest_file(path)] for path in self._paths]
            columns = [self._item_column, self._label_column, self._id_column]
            self._fingerprint = digest_json({"reader": "parquet", "shards": shards, "columns": columns})
        return self._fingerprint

    def column(self, name: str) -> NDArray[Any]:
        """Another column of the split, e.g. "class_rank" or "domain": [n], in row order; null integers are -1.

        Raises:
            ConfigError: there is no such column.
        """
        if name not in self._schema.names:
            raise ConfigError("column", f"{name!r} is not in {self._folder}", f"choose one of {self._schema.names}")
        return _to_numpy(self._read_column(name))

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, split, columns."""
        return {
            "reader": "parquet",
            "path": str(self._source),
            "split": self.split,
            "n_shards": len(self._paths),
            f"{self.kind.removesuffix('s')}_column": self._item_column,
            "label_column": self._label_column,
            "id_column": self._id_column,
        }

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_files={}, _groups=OrderedDict(), _held=0, _ids=None)
        return state

    def _file(self, shard: int) -> pq.ParquetFile:
        if shard not in self._files:
            self._files[shard] = open_shard(self._paths[shard])
        return self._files[shard]

    def _row_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(shard, group) of every row group [g, 2], and the row after its last [g]."""
        where, sizes = [], []
        for shard in range(len(self._paths)):
            file = self._file(shard)
            if not file.schema_arrow.equals(self._schema, check_metadata=False):
                raise DataError(f"{self._paths[shard]} has other columns than {self._paths[0].name}; write them again")
            for group in range(file.metadata.num_row_groups):
                where.append((shard, group))
                sizes.append(file.metadata.row_group(group).num_rows)
        return np.array(where, dtype=np.int64).reshape(-1, 2), np.cumsum(np.array(sizes, dtype=np.int64))

    def _check_columns(self) -> None:
        item_field = f"{self.kind.removesuffix('s')}_column"
        columns = {item_field: self._item_column, "label_column": self._label_column, "id_column": self._id_column}
        for field, name in columns.items():
            if name is not None and name not in self._schema.names:
                choice = f"choose one of {self._schema.names}"
                fix = f"{choice}, or null for a pool without labels" if field == "label_column" else choice
                raise ConfigError(f"pool.{field}", f"{name!r} is not a column of {self._paths[0]}", fix)
        item = self._schema.field(self._item_column).type
        if self.kind == "text" and not (pa.types.is_string(item) or pa.types.is_large_string(item)):
            raise ConfigError("pool.text_column", f"{self._item_column!r} is {item}, not text", "choose another")
        if self.kind == "images" and not is_image_column(item):
            raise ConfigError(
                "pool.image_column", f"{self._item_column!r} is {item}, not image bytes", "choose another"
            )
        if self._label_column is not None and not pa.types.is_integer(self._schema.field(self._label_column).type):
            problem = f"{self._label_column!r} is {self._schema.field(self._label_column).type}"
            raise ConfigError("pool.label_column", problem, "choose an integer column, or null")

    def _value(self, row: int) -> bytes | str:
        """What the column holds at a row. Raises UnreadableItem if it is null or cannot be unpacked."""
        row = check_row(row, len(self))
        group = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        try:
            value: bytes | str | None = self._group(group)[row - first].as_py()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UnreadableItem(row, self.ids[row], f"its row group cannot be unpacked: {error}") from error
        if value is None:
            raise UnreadableItem(row, self.ids[row], f"column {self._item_column!r} holds no bytes")
        return value

    def _group(self, group: int) -> pa.ChunkedArray:
        """The items of a row group, from the cache or unpacked; the least recently used go first."""
        if group in self._groups:
            self._groups.move_to_end(group)
            return self._groups[group]
        shard, local = self._where[group].tolist()
        is_struct = pa.types.is_struct(self._schema.field(self._item_column).type)
        wanted = f"{self._item_column}.bytes" if is_struct else self._item_column
        column = self._file(shard).read_row_group(local, columns=[wanted], use_threads=False)[self._item_column]
        if is_struct:
            column = pc.struct_field(column, "bytes")
        self._groups[group] = column
        self._held += column.nbytes
        while self._held > self._cache_bytes and len(self._groups) > 1:
            self._held -= self._groups.popitem(last=False)[1].nbytes
        return column

    def _read_column(self, name: str) -> pa.ChunkedArray:
        """A whole column (or ``image.path``) of all shards in order."""
        top = name.split(".")[0] if name not in self._schema.names else name
        try:
            tables = [self._file(shard).read(columns=[name], use_threads=False) for shard in range(len(self._paths))]
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"column {name!r} of {self._folder} cannot be read ({error}); fetch the files again"
            ) from error
        return pa.concat_tables([table.select([top]) for table in tables])[top]

    def _read_ids(self) -> list[str]:
        image = self._schema.field(self._item_column).type
        found: list[Any] = [None] * len(self)
        if self._id_column is not None:
            found = self._read_column(self._id_column).to_pylist()
        elif pa.types.is_struct(image) and image.get_field_index("path") >= 0:
            found = pc.struct_field(self._read_column(f"{self._item_column}.path"), "path").to_pylist()
        names: list[str] = []
        for shard, path in enumerate(self._paths):
            names += [f"{path.stem}:{row}" for row in range(self._file(shard).metadata.num_rows)]
        return unique_ids(name if given in (None, "") else str(given) for given, name in zip(found, names, strict=True))


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    if column.null_count and pa.types.is_integer(column.type):
        column = pc.fill_null(column, -1)
    return column.to_numpy()
