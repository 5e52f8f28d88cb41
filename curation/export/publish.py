"""What a curation hands over: the subset artifact and, if wanted, a copy of its items, in one folder, whole or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from strata.curation.errors import ConfigError
from strata.curation.export.formats import WRITERS, check_format
from strata.curation.pools.base import Pool

COPY_FOLDER = "data"
_MARK = "written-by-strata.tmp"


def publish(
    subset: Path, out: Path, pool: Pool, copy: str | None = None, source_rows: Int[np.ndarray, " n"] | None = None
) -> None:
    """Write ``out``: the files of a subset artifact, and its items under ``out/data`` in the format ``copy``.

    Each item is written once, in the order of ``subset.parquet``, which also says how often it is repeated. Everything
    is written under ``<out>.partial``, which is renamed when whole; what a killed run left there is written anew.

    Args:
        subset: a finished subset artifact.
        out: the folder to make.
        pool: the pool that the subset's rows number: its readable part.
        copy: a format of ``WRITERS``, or None.
        source_rows: row of each item of ``pool`` in the user's data, where unreadable items were left out: the rows
            written then number the data as the user has them.

    Raises:
        ConfigError: ``out`` exists, or the format does not fit. DataError: an item cannot be read.
    """
    check_format(copy, pool)
    work = out.with_name(out.name + ".partial")
    if out.exists():
        raise ConfigError("out", f"{out} exists already", "name a new folder")
    if work.exists() and not (work / _MARK).is_file():
        raise ConfigError("out", f"{work} exists already, and is not ours", "remove it, or name another folder")
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    (work / _MARK).touch()
    try:
        shutil.copytree(subset, work, dirs_exist_ok=True)
        if copy is not None:
            table = pq.read_table(work / "subset.parquet", columns=["row", "n_repeat"])
            WRITERS[copy](pool, table["row"].to_numpy(), table["n_repeat"].to_pylist(), work / COPY_FOLDER)
        if source_rows is not None:
            _renumber(work, source_rows)
        for left in work.glob("*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.rename(out)


def _renumber(folder: Path, source_rows: Int[np.ndarray, " n"]) -> None:
    """Replace the rows of a subset's files by those of the data that the pool is the readable part of."""
    table = pq.read_table(folder / "subset.parquet")
    column = table.column_names.index("row")
    rows = pa.array(source_rows[table["row"].to_numpy()], table.schema.field("row").type)
    pq.write_table(table.set_column(column, table.schema.field("row"), rows), folder / "subset.parquet")
    np.save(folder / "indices.npy", source_rows[np.load(folder / "indices.npy", allow_pickle=False)])
