"""The embedding store: an ``embeddings`` artifact, [n, d] rows in memory-mapped shards, with ids and labels.

Files: ``shard-00000.npy`` ... (float16 or float32), ``items.parquet`` (row, id, label) and ``manifest.json``, which
says how the embeddings were made: encoder, transform, normalization and the fingerprint of the pool.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from strata.curation.artifact import create_artifact, read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.linked import check_unchanged
from strata.curation.shards import ITEMS_FILE, checked_cast, shard_name, shard_ranges, write_items, write_shard

DTYPES = ("float16", "float32")


class EmbeddingStore:
    """Read access to embeddings on disk. Nothing is loaded until rows are read.

    Args:
        path: a finished ``embeddings`` artifact.

    Raises:
        DataError: not such an artifact, or its files disagree with its manifest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(path, "embeddings")
        self.shape: tuple[int, int] = (self.manifest["n"], self.manifest["dim"])
        self.dtype = np.dtype(self.manifest["dtype"])
        for shard in self.manifest["shards"]:
            if "linked" in shard:  # the user's own file, not copied: see vectors.py
                check_unchanged(self.path / shard["file"], shard["linked"])
        self._shards = [self._open_shard(shard["file"], shard["rows"]) for shard in self.manifest["shards"]]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)]).tolist()
        if self._starts[-1] != len(self):
            raise DataError(
                f"{path}: its shards hold {self._starts[-1]} rows but its manifest says {len(self)}; embed again"
            )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a store for reading (the same as the constructor)."""
        return cls(path)

    def _open_shard(self, file: str, rows: int) -> np.ndarray:
        try:
            shard: np.ndarray = np.load(self.path / file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / file} cannot be read ({error}); embed again") from error
        if shard.shape != (rows, self.shape[1]) or shard.dtype != self.dtype:
            raise DataError(
                f"{self.path / file} holds {shard.dtype} {shard.shape}, not what the manifest says; embed again"
            )
        return shard

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"EmbeddingStore({str(self.path)!r}, shape={self.shape}, dtype={self.dtype})"

    def read(self, start: int, stop: int) -> Float[np.ndarray, "m d"]:
        """Rows ``start`` to ``stop``, across shards: a read-only view where they lie in one shard, else a copy.

        Raises:
            IndexError: not ``0 <= start <= stop <= n``.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} to {stop} of a store of {len(self)}")
        parts = []
        first = bisect.bisect_right(self._starts, start) - 1
        for shard, offset in zip(self._shards[first:], self._starts[first:], strict=False):
            if offset >= stop:
                break
            parts.append(shard[max(start - offset, 0) : stop - offset])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)

    def take(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
        """The given rows, in the given order, read shard by shard.

        Raises:
            IndexError: a row is negative or past the end.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a store of {len(self)}")
        taken = np.empty((len(rows), self.shape[1]), self.dtype)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(shard_of).tolist():
            here = shard_of == index
            taken[here] = self._shards[index][rows[here] - self._starts[index]]
        return taken

    def iter_blocks(self, rows: int = 65536) -> Iterator[Float[np.ndarray, "m d"]]:
        """All rows in order, at most ``rows`` at a time."""
        for block in shard_ranges(len(self), rows):
            yield self.read(block.start, block.stop)

    def to_numpy(self) -> Float[np.ndarray, "n d"]:
        """All rows in memory (a writable copy)."""
        return self.__array__(copy=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = self.read(0, len(self))
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        if copy is False and (len(self._shards) > 1 or wanted != self.dtype):
            raise ValueError("a copy is needed to join the shards of a store or to cast them")
        return np.array(rows, dtype=wanted, copy=True) if copy else np.asarray(rows, dtype=wanted)

    @cached_property
    def ids(self) -> list[str]:
        """Id of each row."""
        ids: list[str] = self._column("id").to_pylist()
        return ids

    @cached_property
    def labels(self) -> Int[np.ndarray, " n"] | None:
        """Label of each row (int64, -1 for no label), or None if no row has one."""
        labels = self._column("label").to_numpy().astype(np.int64)
        return labels if (labels >= 0).any() else None

    def _column(self, name: str) -> Any:
        try:
            column = pq.read_table(self.path / ITEMS_FILE, columns=[name])[name]
        except OSError as error:
            raise DataError(f"{self.path / ITEMS_FILE} cannot be read ({error}); embed again") from error
        if len(column) != len(self):
            raise DataError(f"{self.path / ITEMS_FILE} has {len(column)} rows, the store {len(self)}; embed again")
        return column

    def check_finite(self, rows: int = 65536) -> None:
        """Read everything once and raise a DataError naming the first NaN or infinite rows."""
        for block in shard_ranges(len(self), rows):
            values = self.read(block.start, block.stop)
            if not np.isfinite(values).all():
                checked_cast(values, self.dtype, self.ids, block.start)

    @classmethod
    def from_array(
        cls,
        path: str | Path,
        X: ArrayLike | torch.Tensor | str | Path,
        ids: Sequence[str] | None = None,
        labels: ArrayLike | None = None,
        *,
        shard_rows: int = 65536,
        dtype: Literal["float16", "float32"] | None = None,
        label_names: Sequence[str] | None = None,
        encoder: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        key: str = "",
        inputs: Mapping[str, str] | None = None,
        config: Any = None,
    ) -> Self:
        """Write a store from embeddings that exist already, and open it.

        Args:
            path: the folder to make. Must not exist yet.
            X: [n, d] array, memmap, tensor, or the path of an ``.npy`` file (read memory-mapped).
            ids: unique id of each row; default: the row numbers.
            labels: integer label of each row, -1 for none.
            shard_rows: rows per file.
            dtype: default: as X if float16 or float32, else float32.
            label_names: name of each label.
            encoder: what made them, as ``Encoder.describe()`` says it: for the manifest.
            pool: what was embedded, with its ``fingerprint``: for the manifest.
            key: content key; ``inputs`` and ``config``: see ``create_artifact``.

        Raises:
            ConfigError: wrong shapes, dtype or shard size.
            DataError: NaN or infinite values, an unreadable file, or ids that are not unique. Nothing is left on disk.
        """
        rows = _as_matrix(X)
        n, dim = rows.shape
        stored = dtype or (str(rows.dtype) if str(rows.dtype) in DTYPES else "float32")
        check_layout(stored, shard_rows)
        names = [str(row) for row in range(n)] if ids is None else [str(item) for item in ids]
        targets = None if labels is None else _as_labels(labels)
        for field, values in (("ids", names), ("labels", targets)):
            if values is not None and len(values) != n:
                raise ConfigError(field, f"{len(values)} for {n} rows", "give one per row")
        if len(set(names)) < n:
            raise DataError("ids are not unique; give each row its own id")
        with create_artifact(path, "embeddings", key=key, inputs=inputs, config=config) as draft:
            for index, span in enumerate(shard_ranges(n, shard_rows)):
                block = checked_cast(rows[span.start : span.stop], stored, names, span.start)
                write_shard(draft.path, index, block)
            write_items(draft.path, names, targets)
            draft.meta.update(store_meta(n, dim, stored, shard_rows, encoder or {}, pool or {}, label_names))
        return cls(path)


def store_meta(
    n: int,
    dim: int,
    dtype: str,
    shard_rows: int,
    encoder: Mapping[str, Any],
    pool: Mapping[str, Any],
    label_names: Sequence[str] | None,
) -> dict[str, Any]:
    """What the manifest of a store says beyond what every manifest does."""
    spans = enumerate(shard_ranges(n, shard_rows))
    return {
        "n": n,
        "dim": dim,
        "dtype": dtype,
        "shard_rows": shard_rows,
        "shards": [{"file": shard_name(index), "rows": len(span)} for index, span in spans],
        "encoder": dict(encoder),
        "transform": encoder.get("transform"),
        "normalization": encoder.get("normalization"),
        "pool": dict(pool),
        "label_names": None if label_names is None else list(label_names),
    }


def check_layout(dtype: str, shard_rows: int) -> None:
    """Raise a ConfigError on a dtype or a shard size that a store cannot have."""
    if dtype not in DTYPES:
        raise ConfigError("dtype", f"{dtype!r} is not a dtype of a store", "use float16 or float32")
    if shard_rows < 1:
        raise ConfigError("shard_rows", f"{shard_rows} is not a number of rows", "use 1 or more, e.g. 65536")


def _as_matrix(X: ArrayLike | torch.Tensor | str | Path) -> Float[np.ndarray, "n d"]:
    if isinstance(X, str | Path):
        try:
            X = np.load(X, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{X} cannot be read as .npy ({error}); save it with numpy.save as a plain array"
            ) from error
    elif isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    matrix = np.asanyarray(X)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ConfigError("X", f"shape {matrix.shape}", "give a non-empty array [n, d]")
    if matrix.dtype.kind not in "fiu":
        raise ConfigError("X", f"dtype {matrix.dtype}", "give real numbers")
    return matrix


def _as_labels(labels: ArrayLike) -> Int[np.ndarray, " n"]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" or array.ndim != 1 or (array < -1).any():
        raise ConfigError("labels", f"{array.dtype} {array.shape}", "give integers [n], -1 for no label")
    return array.astype(np.int64)
