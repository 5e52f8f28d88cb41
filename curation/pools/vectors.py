"""Embeddings that exist already: ``.npy`` files, read through memory maps."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.find import find_files
from strata.curation.pools.fingerprint import digest_file, digest_json
from strata.curation.pools.items import check_row, pool_name, unique_ids
from strata.curation.pools.label_values import class_ids

BLOCK = 65536  # rows
_NUMBER = re.compile(r"-?[0-9]+")


class VectorPool:
    """Rows of one ``.npy`` file [n, d], or of several one after the other by name. ``pool[row]`` is a float vector.

    Ids and labels may lie beside the rows: ``emb.ids.txt`` (one per line) or ``emb.ids.npy``, and ``emb.labels.txt`` or
    ``emb.labels.npy``, for ``emb.npy``; in a folder ``ids.txt`` and so on. A folder that ``strata embed`` wrote brings
    its own. A row with NaN or infinite values is unreadable.

    Args:
        path: a file, a folder of such files, or a glob.
        ids: file with the ids, ``.txt`` or ``.npy``; by default what lies beside, else the row numbers.
        labels: file with labels (whole numbers, -1 for none, or names).
        name: defaults to the name of the file or folder.

    Raises:
        ConfigError: no such files, other shapes than [n, d], or ids or labels of another length.
        DataError: a file is damaged, or holds Python objects.
    """

    kind: Kind = "vectors"
    label_names: list[str] | None

    def __init__(self, path: str, ids: str | None = None, labels: str | None = None, name: str | None = None) -> None:
        self._source = path
        files = [file for file in find_files(path, (".npy",)) if not _is_companion(file)]
        if not files:
            raise ConfigError("pool.path", f"{path} holds no rows, only ids or labels", "give the .npy with the rows")
        self.files = files
        self._arrays = [_open_rows(file) for file in files]
        widths = sorted({array.shape[1] for array in self._arrays})
        if len(widths) > 1:
            raise ConfigError("pool.path", f"its files have rows of {widths} numbers", "give files of one embedding")
        self.dim: int = widths[0]
        self._starts = np.cumsum([0, *(len(array) for array in self._arrays)])
        if not len(self):
            raise ConfigError("pool.path", f"{files[0]} holds no rows", "give a file with at least one")
        self.name = pool_name(name, files[0].stem if len(files) == 1 else files[0].parent.name)
        stems = [f"{files[0].stem}."] if len(files) == 1 else []
        stems += [] if Path(path).suffix == ".npy" else [""]  # ids.txt belongs to a folder, not to one of its files
        self._ids_file = _companion(ids, files[0], stems, "ids")
        self._labels_file = _companion(labels, files[0], stems, "labels")
        self._items = _own_items(files, path)
        self.ids: Sequence[str] = self._read_ids()
        self.labels, self.label_names = self._read_labels()
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> NDArray[np.floating]:
        """The vector at a row, a copy.

        Raises:
            UnreadableItem: it holds NaN or infinite values. IndexError: there is no such row.
        """
        row = check_row(row, len(self))
        vector: NDArray[np.floating] = self.read(row, row + 1)[0].copy()
        if not np.isfinite(vector).all():
            raise UnreadableItem(row, self.ids[row], "it holds NaN or infinite values")
        return vector

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """The memory maps [n_i, d], in order."""
        return self._arrays

    @property
    def fingerprint(self) -> str:
        """Of the files' names and content (see ``fingerprint.py``), ids and labels included."""
        if self._fingerprint is None:
            extra = [self._ids_file, self._labels_file, self._items]
            files = [[file.name, digest_file(file)] for file in (*self.files, *(file for file in extra if file))]
            self._fingerprint = digest_json({"reader": "vectors", "files": files})
        return self._fingerprint

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop``, across files: a view where they lie in one."""
        parts = [
            array[max(start - first, 0) : stop - first]
            for array, first in zip(self._arrays, self._starts.tolist(), strict=False)
            if first < stop and first + len(array) > start
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def unreadable(self) -> Iterator[tuple[int, str]]:
        """Row and reason of every row with NaN or infinite values. Reads everything once, a block at a time."""
        for start in range(0, len(self), BLOCK):
            block = self.read(start, min(start + BLOCK, len(self)))
            for row in np.flatnonzero(~np.isfinite(block).all(axis=1)).tolist():
                yield start + row, "it holds NaN or infinite values"

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, shape."""
        companions = {"ids": self._ids_file, "labels": self._labels_file}
        return {
            "reader": "vectors",
            "path": str(self._source),
            "n_files": len(self.files),
            "dim": self.dim,
            **{role: str(file) if file else None for role, file in companions.items()},
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrays = [_open_rows(file) for file in self.files]

    def _read_ids(self) -> list[str]:
        if self._ids_file is not None:
            return unique_ids(str(value) for value in _read_values(self._ids_file, len(self), "pool.ids"))
        if self._items is not None:
            return [str(value) for value in pq.read_table(self._items, columns=["id"])["id"].to_pylist()]
        return [str(row) for row in range(len(self))]

    def _read_labels(self) -> tuple[NDArray[np.int64] | None, list[str] | None]:
        if self._labels_file is not None:
            values = _read_values(self._labels_file, len(self), "pool.labels")
            if all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in values):
                values = [int(value) for value in values]
            return class_ids(values, "pool.labels")
        if self._items is not None:
            labels = pq.read_table(self._items, columns=["label"])["label"].to_numpy().astype(np.int64)
            if (labels >= 0).any():
                return labels, read_manifest(self._items.parent, "embeddings").get("label_names")
        return None, None


def _open_rows(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read as .npy ({error}); save it with numpy.save as a plain array") from error
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise ConfigError("pool.path", f"{file} holds {array.dtype} {array.shape}", "give real numbers [n, d]")
    return array


def _is_companion(file: Path) -> bool:
    return file.stem in ("ids", "labels") or file.stem.endswith((".ids", ".labels"))


def _companion(given: str | None, first: Path, stems: Sequence[str], role: str) -> Path | None:
    """The file of ids or labels: as given, or what lies beside the rows."""
    if given is not None:
        return resolve_data_path(given, f"pool.{role}")
    beside = [first.with_name(stem + role + ending) for stem in stems for ending in (".txt", ".npy")]
    return next((file for file in beside if file.is_file()), None)


def _own_items(files: list[Path], path: str) -> Path | None:
    """``items.parquet`` of a folder that ``strata embed`` wrote."""
    folder = files[0].parent
    if not (folder / "manifest.json").is_file() or not (folder / "items.parquet").is_file():
        return None
    rows = read_manifest(folder, "embeddings")["n"]
    have = sum(len(_open_rows(file)) for file in files)
    if rows != have:
        raise ConfigError("pool.path", f"{path} names {have} of the {rows} rows of {folder}", "give the whole folder")
    return folder / "items.parquet"


def _read_values(file: Path, n: int, field: str) -> list[Any]:
    """One id or label per row."""
    values: list[Any]
    if file.suffix == ".npy":
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{file} cannot be read ({error}); save whole numbers or strings with numpy.save"
            ) from error
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise ConfigError(field, f"{file} holds {array.dtype} {array.shape}", "give whole numbers or strings [n]")
        values = array.tolist()
    else:
        try:
            values = file.read_text(encoding="utf-8").removesuffix("\n").replace("\r\n", "\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read as UTF-8 text ({error}); write one value per line") from error
    if len(values) != n:
        raise ConfigError(field, f"{file} has {len(values)} values for {n} rows", "give one per row")
    return values
