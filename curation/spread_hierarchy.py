"""Save a hierarchy whose rows are spread over processes: each writes its part into the same memory-mapped files."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from strata.curation.artifact import Draft, create_artifact
from strata.curation.errors import DataError, StrataError
from strata.curation.hierarchy import write_levels
from strata.curation.kmeans.group import Group
from strata.curation.level import Level


def save_spread(
    path: str | Path,
    levels: Sequence[Level],
    rows: tuple[int, int],
    n: int,
    group: Group,
    *,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> None:
    """Write what ``Hierarchy.save`` would, byte by byte; every process calls it, on a folder that all can see.

    Args:
        path: the folder to make. levels: level 1 has the rows of this process; the others are the same on all.
        rows: first and last + 1 of the rows of this process. n: rows of all.
        group: the processes. key, inputs, config: see ``create_artifact``.

    Raises:
        DataError: on every process, if process 0 cannot make the folder.
    """
    folder = Path(path).with_name(Path(path).name + ".partial") / "level1"
    parts = {"assignment": levels[0].assignment, "distance": levels[0].distance}
    with contextlib.ExitStack() as stack:
        error = None
        if group.rank == 0:
            try:
                draft = stack.enter_context(create_artifact(path, "hierarchy", key=key, inputs=inputs, config=config))
                _prepare(draft, levels, n)
            except (StrataError, OSError) as found:
                error = DataError(str(found))
        group.agree(error)
        for name, values in parts.items():
            if values is not None and len(values):
                file = open_memmap(folder / f"{name}.npy", mode="r+")
                file[slice(*rows)] = values
                file.flush()
        group.barrier()
    group.barrier()  # renamed


def _prepare(draft: Draft, levels: Sequence[Level], n: int) -> None:
    folder = draft.path / "level1"
    folder.mkdir(exist_ok=True)
    lowest = levels[0]
    for name, values in (("assignment", lowest.assignment), ("distance", lowest.distance)):
        if values is not None:
            open_memmap(folder / f"{name}.npy", mode="w+", dtype=values.dtype, shape=(n,)).flush()
    if lowest.centroids is not None:
        np.save(folder / "centroids.npy", lowest.centroids)
    write_levels(draft, levels[1:], first=2)
    draft.meta.update(n=n, n_clusters=[level.n_clusters for level in levels])
