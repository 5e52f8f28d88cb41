"""What a curation hands over: the subset artifact and, if wanted, a copy of its items, in one folder, whole or not at all."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from strata.curation.errors import ConfigError
from strata.curation.export.formats import WRITERS, check_format
from strata.curation.pools.base import Pool

COPY_FOLDER = "data"
_MARK = "written-by-strata.tmp"


def publish(subset: Path, out: Path, pool: Pool, copy: str | None = None) -> None:
    """Write ``out``: the files of a subset artifact, and its items under ``out/data`` in the format ``copy``.

    Each item is written once, in the order of ``subset.parquet``, which also says how often it is repeated. Everything
    is written under ``<out>.partial``, which is renamed when whole; what a killed run left there is written anew.

    Args:
        subset: a finished subset artifact.
        out: the folder to make.
        pool: the pool that the subset's rows number: its readable part.
        copy: a format of ``WRITERS``, or None.

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
        for left in work.glob("*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.rename(out)
