"""How the rows of an embedding store are written: checked shards of ``.npy`` and one table of the items."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from strata.curation.errors import DataError

ITEMS_FILE = "items.parquet"
_ITEMS_SCHEMA = pa.schema([("row", pa.int64()), ("id", pa.string()), ("label", pa.int64())])


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.npy"


def shard_ranges(n: int, shard_rows: int) -> Iterator[range]:
    """The rows of each shard: all have ``shard_rows`` but the last one."""
    for start in range(0, n, shard_rows):
        yield range(start, min(start + shard_rows, n))


def checked_cast(
    block: Float[np.ndarray, "m d"], dtype: DTypeLike, ids: Sequence[str], first_row: int
) -> Float[np.ndarray, "m d"]:
    """Cast a block of embeddings to the dtype of the store, refusing what k-means cannot use.

    Args:
        block: embeddings of the rows ``first_row`` to ``first_row + m``.
        dtype: float16 or float32.
        ids: ids of all items of the store (indexed by row).
        first_row: row of the first embedding of the block.

    Raises:
        DataError: a value is NaN or infinite, or too large for float16; names the first rows and ids.
    """
    with np.errstate(over="ignore"):
        cast = block.astype(dtype)
    bad = ~np.isfinite(cast).all(axis=1)
    if not bad.any():
        return cast
    if np.isfinite(block[bad]).all():
        raise DataError(
            f"{_name(bad, ids, first_row)} hold values too large for float16; store them with dtype=float32"
        )
    raise DataError(f"{_name(bad, ids, first_row)} hold NaN or infinite values; fix or remove these items")


def _name(bad: np.ndarray, ids: Sequence[str], first_row: int, most: int = 5) -> str:
    rows = (np.flatnonzero(bad) + first_row).tolist()
    named = ", ".join(f"{row} ({ids[row]!r})" for row in rows[:most])
    return f"embeddings of rows {named}{' and more' if len(rows) > most else ''}"


def write_shard(folder: Path, index: int, block: Float[np.ndarray, "m d"]) -> None:
    """Write one shard so that a killed run leaves either all of it or nothing under its name."""
    temporary = folder / (shard_name(index) + ".tmp")
    with open(temporary, "wb") as stream:
        np.save(stream, np.ascontiguousarray(block), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / shard_name(index))


def holds_shard(folder: Path, index: int, shape: tuple[int, int], dtype: DTypeLike) -> bool:
    """Whether a shard is there, whole, with this shape and dtype."""
    try:
        shard = np.load(folder / shard_name(index), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return shard.shape == shape and shard.dtype == np.dtype(dtype)


def write_items(folder: Path, ids: Sequence[str], labels: Int[np.ndarray, " n"] | None, block: int = 1 << 18) -> None:
    """Write ``items.parquet`` (row, id, label; -1 for no label), a block of rows at a time."""
    temporary = folder / (ITEMS_FILE + ".tmp")
    with pq.ParquetWriter(temporary, _ITEMS_SCHEMA) as writer:
        for rows in shard_ranges(len(ids), block):
            span = slice(rows.start, rows.stop)
            label = np.full(len(rows), -1, np.int64) if labels is None else np.asarray(labels[span], np.int64)
            columns = {"row": np.arange(rows.start, rows.stop), "id": list(ids[span]), "label": label}
            writer.write_table(pa.table(columns, schema=_ITEMS_SCHEMA))
    temporary.replace(folder / ITEMS_FILE)
