"""Embeddings that the user brings, as an embedding store: linked where the store can read them as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.artifact import create_artifact
from strata.curation.errors import ConfigError
from strata.curation.linked import link_record
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.curation.pools.vectors import VectorPool
from strata.curation.shards import checked_cast, shard_ranges, write_items, write_shard
from strata.curation.store import DTYPES, check_layout, store_meta


def store_given(
    pool: Pool,
    out: str | Path,
    *,
    dtype: str = "float32",
    shard_rows: int = 65536,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> Path:
    """Write an ``embeddings`` artifact of a pool of vectors.

    If all rows are wanted and the files hold float16 or float32, nothing is copied: the manifest names the user's files
    and ``EmbeddingStore`` maps them (it refuses them once they have changed). Otherwise, with other numbers or with
    unreadable rows left out, the rows are copied, a shard at a time.

    Args:
        pool: a ``VectorPool``, or a ``SubsetPool`` of one (its readable rows).
        out: the folder to make.
        dtype: of a copy. Linked files keep their own.
        shard_rows: rows per file of a copy.
        key, inputs, config: see ``create_artifact``.

    Raises:
        ConfigError: another pool. DataError: a value is NaN, infinite or too large for ``dtype``.
    """
    rows, vectors = None, pool
    if isinstance(pool, SubsetPool):
        rows, vectors = pool.rows, pool.pool
    if not isinstance(vectors, VectorPool):
        raise ConfigError("encoder", f"pool {pool.name!r} holds no vectors", "choose an encoder that reads its items")
    source = {"name": pool.name, "fingerprint": pool.fingerprint, **pool.describe()}
    described = {"name": "none", "normalization": None, "transform": None}
    types = {str(array.dtype) for array in vectors.arrays}
    link = rows is None and len(types) == 1 and types < {*DTYPES, ""}
    check_layout(dtype, shard_rows)
    with create_artifact(out, "embeddings", key=key, inputs=inputs, config=config) as draft:
        if link:
            dtype, shard_rows = types.pop(), max(len(array) for array in vectors.arrays)
        else:
            wanted = np.arange(len(pool)) if rows is None else rows
            for index, span in enumerate(shard_ranges(len(pool), shard_rows)):
                block = _take(vectors, wanted[span.start : span.stop])
                write_shard(draft.path, index, checked_cast(block, dtype, pool.ids, span.start))
        draft.meta.update(store_meta(len(pool), vectors.dim, dtype, shard_rows, described, source, pool.label_names))
        if link:
            parts = zip(vectors.files, vectors.arrays, strict=True)
            draft.meta["shards"] = [
                {"file": str(file.absolute()), "rows": len(array), "linked": link_record(file)} for file, array in parts
            ]
        write_items(draft.path, pool.ids, pool.labels)
    return Path(out)


def _take(pool: VectorPool, rows: np.ndarray) -> np.ndarray:
    """The given rows, ascending; only the range that they span is read."""
    first = int(rows[0])
    taken: np.ndarray = pool.read(first, int(rows[-1]) + 1)[rows - first]
    return taken
