"""A subset of vectors as ``.npy``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.pools.base import Pool

BLOCK = 4096  # rows


def write_npy(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """``embeddings.npy`` [m, d], its dtype as the pool's rows have it, with ``embeddings.ids.npy`` and, where there are
    labels, ``embeddings.labels.npy`` (-1 for none).
    """
    out.mkdir()
    first = pool[int(rows[0])]
    with open(out / "embeddings.npy", "wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(stream, header | {"shape": (len(rows), len(first))})
        for start in range(0, len(rows), BLOCK):
            block = np.stack([pool[row] for row in rows[start : start + BLOCK].tolist()])
            stream.write(np.ascontiguousarray(block).tobytes())
    ids = pool.ids
    np.save(out / "embeddings.ids.npy", np.array([ids[row] for row in rows.tolist()], np.str_))
    if pool.labels is not None:
        np.save(out / "embeddings.labels.npy", pool.labels[rows])
