"""A CSV that lists the tiles of rasters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.raster_files import RasterFile


def read_tile_table(
    path: Path, names: Sequence[str], files: Sequence[RasterFile], split: str | None
) -> NDArray[np.int64]:
    """The tiles of a table with the columns row, col, size (pixels) and, for several rasters, file.

    Args:
        path: of the CSV.
        names: of the rasters, as the column ``file`` has them.
        files: their headers.
        split: only rows with this value in the column ``split``.

    Returns:
        [n, 5]: file, row, column, height, width.

    Raises:
        ConfigError: a missing column, a split that is not there, or a file that is not a raster of the pool.
        DataError: not a CSV, or a tile that reaches over its raster; the line is named.
    """
    try:
        table = pc.read_csv(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); write it again") from error
    wanted = ["row", "col", "size"] + (["split"] if split is not None else []) + (["file"] if len(names) > 1 else [])
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise ConfigError("pool.table", f"{path} has no column {missing[0]!r}", f"it needs {', '.join(wanted)}")
    lines = np.arange(2, 2 + len(table))  # as an editor counts them
    if split is not None:
        values = np.array([str(value) for value in table["split"].to_pylist()])
        if split not in values:
            raise ConfigError(
                "pool.split", f"{split!r} is not in {path}", f"choose one of {sorted(set(values.tolist()))}"
            )
        table, lines = table.filter(pa.array(values == split)), lines[values == split]
    number = {name: i for i, name in enumerate(names)}
    found = []
    of_file = table["file"].to_pylist() if len(names) > 1 else [names[0]] * len(table)
    columns = (table[name].to_pylist() for name in ("row", "col", "size"))
    for line, name, row, column, size in zip(lines.tolist(), of_file, *columns, strict=True):
        if name not in number:
            raise ConfigError("pool.table", f"line {line} of {path} names {name!r}", "give files of pool.path")
        file = files[number[name]]
        if not all(isinstance(value, int) for value in (row, column, size)):
            raise DataError(f"line {line} of {path}: row, col and size have to be whole numbers; write it again")
        if min(row, column) < 0 or size < 1 or row + size > file.height or column + size > file.width:
            raise DataError(
                f"line {line} of {path}: the tile at row {row}, column {column} of {size} px reaches over {name} "
                f"({file.width} x {file.height}); mend the table"
            )
        found.append((number[name], row, column, size, size))
    return np.array(found, dtype=np.int64).reshape(-1, 5)
