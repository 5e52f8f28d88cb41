"""Some rows of a pool, in a given order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, DataError
from strata.curation.footprints import footprints_of
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.content import Kind, encoded_of, file_of, kind_of, line_of, valid_of
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row, pool_name, unique_ids


class SubsetPool:
    """The items of ``pool`` at ``rows``, in that order; a row may be given more than once (its ids become unique).

    Args:
        pool: the pool to take from.
        rows: int [n], or the path of a subset artifact or of an ``.npy`` file that holds them.
        name: defaults to ``<pool>-subset``.

    Raises:
        ConfigError: no rows, rows that are not whole numbers, or rows outside the pool.
    """

    def __init__(self, pool: Pool, rows: Sequence[int] | NDArray[np.int64] | str, name: str | None = None) -> None:
        self._pool = pool
        self._rows = _as_rows(rows, len(pool))
        self.name = pool_name(name, pool.name, "subset")
        self.labels: NDArray[np.int64] | None = None if pool.labels is None else pool.labels[self._rows]
        self.label_names: list[str] | None = pool.label_names
        self._ids: list[str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def kind(self) -> Kind:
        """What the items are: see ``content.py``."""
        return kind_of(self._pool)

    @property
    def pool(self) -> Pool:
        """The pool taken from."""
        return self._pool

    def __getitem__(self, row: int) -> Any:
        """The item at a row of the subset. Raises as the pool does, with the subset's row and id."""
        row = check_row(row, len(self))
        try:
            return self._pool[int(self._rows[row])]
        except UnreadableItem as error:
            raise UnreadableItem(row, self.ids[row], error.why) from error

    def encoded(self, row: int) -> bytes | None:
        """The bytes of an item as its pool stores them; see ``content.py``."""
        return encoded_of(self._pool, int(self._rows[check_row(row, len(self))]))

    def file(self, row: int) -> Path | None:
        """The item's own file, if it has one."""
        return file_of(self._pool, int(self._rows[check_row(row, len(self))]))

    def line(self, row: int) -> bytes | None:
        """The item's line of JSON, if it is one."""
        return line_of(self._pool, int(self._rows[check_row(row, len(self))]))

    def valid(self, row: int) -> NDArray[np.bool_] | None:
        """Where a tile has data; see ``content.py``."""
        return valid_of(self._pool, int(self._rows[check_row(row, len(self))]))

    def footprints(self) -> pa.Table | None:
        """Where the items lie that have a place on earth, ``row`` and ``id`` counting the subset's; see ``footprints.py``."""
        table = footprints_of(self._pool)
        if table is None:
            return None
        place = np.full(len(self._pool), -1)
        place[table["row"].to_numpy()] = np.arange(len(table))
        rows = np.flatnonzero(place[self._rows] >= 0)
        table = table.take(pa.array(place[self._rows[rows]]))
        ids = [self.ids[row] for row in rows.tolist()]
        return table.set_column(0, "row", pa.array(rows)).set_column(1, "id", pa.array(ids))

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each item in the pool it comes from, [n]."""
        return self._rows

    @property
    def ids(self) -> Sequence[str]:
        """The pool's ids."""
        if self._ids is None:
            ids = self._pool.ids
            self._ids = unique_ids(ids[row] for row in self._rows.tolist())
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the pool's fingerprint and the rows."""
        return digest_json({"reader": "subset", "pool": self._pool.fingerprint, "rows": self._rows.tolist()})

    def column(self, name: str) -> NDArray[Any]:
        """A column of the pool at the subset's rows, [n].

        Raises:
            ConfigError: the pool has no such column.
        """
        column = getattr(self._pool, "column", None)
        if column is None:
            raise ConfigError("column", f"pool {self._pool.name!r} has no column {name!r}", "use a pool that has it")
        values: NDArray[Any] = column(name)
        return values[self._rows]

    def describe(self) -> dict[str, Any]:
        """The pool taken from and the number of rows."""
        return {"reader": "subset", "pool": self._pool.describe(), "n": len(self)}


def _as_rows(rows: Sequence[int] | NDArray[np.int64] | str, n: int) -> NDArray[np.int64]:
    if isinstance(rows, str | Path):
        rows = _load_rows(resolve_data_path(rows, "pool.rows"))
    array = np.asarray(rows)
    if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.integer):
        problem = f"has shape {array.shape} and type {array.dtype}"
        raise ConfigError("pool.rows", problem, "give a list of at least one whole number")
    if array.min() < 0 or array.max() >= n:
        problem = f"goes from {array.min()} to {array.max()}, but the pool has {n} items"
        raise ConfigError("pool.rows", problem, f"give rows from 0 to {n - 1}; these may belong to another pool")
    return array.astype(np.int64)


def _load_rows(path: Path) -> NDArray[np.int64]:
    file = path / "indices.npy" if path.is_dir() else path
    try:
        rows: NDArray[np.int64] = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} holds no array of rows ({error}); give a subset artifact or an .npy file") from error
    return rows
