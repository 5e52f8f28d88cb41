"""The formats that a subset can be copied to, and which of them fit what a pool holds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.export.arrays import write_npy
from strata.curation.export.files import write_folder, write_symlinks
from strata.curation.export.lines import write_jsonl
from strata.curation.export.tables import write_hf, write_parquet
from strata.curation.export.tars import write_tars
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind, file_of, kind_of

Writer = Callable[[Pool, NDArray[np.int64], Sequence[int], Path], None]

WRITERS: dict[str, Writer] = {
    "folder": write_folder,
    "symlinks": write_symlinks,
    "webdataset": write_tars,
    "hf": write_hf,
    "parquet": write_parquet,
    "jsonl": write_jsonl,
    "npy": write_npy,
}
_FITTING: dict[Kind, tuple[str, ...]] = {
    "images": ("folder", "symlinks", "webdataset", "hf", "parquet"),
    "text": ("jsonl", "webdataset", "hf", "parquet"),
    "vectors": ("npy",),
}


def check_format(copy: str | None, pool: Pool) -> None:
    """Raise a ConfigError unless the items of ``pool`` can be copied so. None is no copy."""
    if copy is None:
        return
    fitting = _FITTING[kind_of(pool)]
    if copy not in WRITERS:
        raise ConfigError("copy", f"{copy!r} is unknown", f"use one of {', '.join(fitting)}, or null")
    if copy not in fitting:
        raise ConfigError("copy", f"{copy} does not fit {kind_of(pool)}", f"use one of {', '.join(fitting)}, or null")
    if copy == "symlinks" and file_of(pool, 0) is None:
        raise ConfigError("copy", f"the items of {pool.name} are no files to link to", "use copy=folder")
