"""Several pools one after the other: a messy mixture, as a crawl is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.footprints import footprints_of
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.content import Kind, encoded_of, file_of, kind_of, line_of, valid_of
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row, pool_name

LABELS = ("own", "pool", "shared", "none")


class ConcatPool:
    """The items of all pools in order. An id is ``<pool name>/<id>``.

    Args:
        pools: the pools, or name -> pool (the names replace the pools' own).
        labels: "own": each pool's classes side by side, ids offset, names ``<pool>/<class>``, -1 where a pool has no
            labels; "pool": the label is the number of the pool; "shared": the pools have the same classes, kept as
            they are; "none".
        name: defaults to the pools' names joined with "+".

    Raises:
        ConfigError: no pools, two of the same name, or label spaces that do not fit ``labels``.
    """

    def __init__(
        self, pools: Sequence[Pool] | Mapping[str, Pool], labels: str = "own", name: str | None = None
    ) -> None:
        if labels not in LABELS:
            raise ConfigError("pool.labels", f"is {labels!r}", f"choose one of {list(LABELS)}")
        if isinstance(pools, Mapping):
            names, parts = [str(key) for key in pools], list(pools.values())
        else:
            parts = list(pools)
            names = [pool.name for pool in parts]
        if not parts:
            raise ConfigError("pool.pools", "is empty", "give at least one pool")
        if len(set(names)) < len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise ConfigError("pool.pools", f"holds {repeated} more than once", "give each pool a name of its own")
        kinds = sorted({kind_of(pool) for pool in parts})
        if len(kinds) > 1:
            raise ConfigError("pool.pools", f"mixes {' and '.join(kinds)}", "mix pools of one kind")
        self.kind: Kind = kind_of(parts[0])
        self._pools, self._names, self._how = parts, names, labels
        self._ends = np.cumsum([len(pool) for pool in parts])
        self.name = pool_name(name, "+".join(names))
        self.labels: NDArray[np.int64] | None
        self.label_names: list[str] | None
        self.labels, self.label_names = _merge(parts, names, labels)
        self._ids: list[str] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> Any:
        """The item at a row of the mixture. Raises as its pool does, with the mixture's row and id."""
        part, local = self._where(row)
        try:
            return self._pools[part][local]
        except UnreadableItem as error:
            raise UnreadableItem(row, f"{self._names[part]}/{error.item_id}", error.why) from error

    def encoded(self, row: int) -> bytes | None:
        """The bytes of an item as its pool stores them; see ``content.py``."""
        part, local = self._where(row)
        return encoded_of(self._pools[part], local)

    def file(self, row: int) -> Path | None:
        """The item's own file, if it has one."""
        part, local = self._where(row)
        return file_of(self._pools[part], local)

    def line(self, row: int) -> bytes | None:
        """The item's line of JSON, if it is one."""
        part, local = self._where(row)
        return line_of(self._pools[part], local)

    def valid(self, row: int) -> NDArray[np.bool_] | None:
        """Where a tile has data; see ``content.py``."""
        part, local = self._where(row)
        return valid_of(self._pools[part], local)

    def footprints(self) -> pa.Table | None:
        """Where the items lie that have a place on earth, ``row`` and ``id`` counting the mixture's; see ``footprints.py``."""
        ids, tables = self.ids, []
        for start, pool in zip([0, *self._ends.tolist()], self._pools, strict=False):
            table = footprints_of(pool)
            if table is not None:
                rows = table["row"].to_numpy() + start
                table = table.set_column(0, "row", pa.array(rows))
                tables.append(table.set_column(1, "id", pa.array([ids[row] for row in rows.tolist()])))
        return pa.concat_tables(tables) if tables else None

    def _where(self, row: int) -> tuple[int, int]:
        """Which pool a row lies in, and its row there."""
        row = check_row(row, len(self))
        part = int(np.searchsorted(self._ends, row, side="right"))
        return part, row - int(self._ends[part]) + len(self._pools[part])

    @property
    def ids(self) -> Sequence[str]:
        """``<pool name>/<id>``."""
        if self._ids is None:
            named = zip(self._names, self._pools, strict=True)
            self._ids = [f"{name}/{item_id}" for name, pool in named for item_id in pool.ids]
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the pools' names and fingerprints in order, and of how labels are merged."""
        parts = [[name, pool.fingerprint] for name, pool in zip(self._names, self._pools, strict=True)]
        return digest_json({"reader": "concat", "pools": parts, "labels": self._how})

    def column(self, name: str) -> NDArray[Any]:
        """ "pool": number of the pool that each item comes from, int64 [n].

        Raises:
            ConfigError: any other name: the pools' own columns need not mean the same.
        """
        if name != "pool":
            raise ConfigError("column", f"a mixture has no column {name!r}", "use 'pool', or ask the pool itself")
        return np.repeat(np.arange(len(self._pools)), [len(pool) for pool in self._pools])

    def describe(self) -> dict[str, Any]:
        """The pools by name, and how labels are merged."""
        parts = {name: pool.describe() for name, pool in zip(self._names, self._pools, strict=True)}
        return {"reader": "concat", "pools": parts, "labels": self._how}


def _merge(pools: list[Pool], names: list[str], how: str) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Labels [n] and class names of the mixture."""
    if how == "none" or (how == "own" and all(pool.labels is None for pool in pools)):
        return None, None
    if how == "pool":
        return np.repeat(np.arange(len(pools), dtype=np.int64), [len(pool) for pool in pools]), list(names)
    if how == "shared":
        first = pools[0].label_names
        if any(pool.labels is None or pool.label_names != first for pool in pools):
            fix = "set pool.labels=own, or mix splits of one data set"
            raise ConfigError("pool.labels", f"is 'shared', but {names} do not have the same classes", fix)
        return np.concatenate([pool.labels for pool in pools if pool.labels is not None]), first
    columns, classes, offset = [], [], 0
    for name, pool in zip(names, pools, strict=True):
        if pool.labels is None:
            columns.append(np.full(len(pool), -1, dtype=np.int64))
            continue
        columns.append(np.where(pool.labels >= 0, pool.labels + offset, -1))
        n_classes = int(pool.labels.max()) + 1
        own = pool.label_names if pool.label_names is not None else [str(label) for label in range(n_classes)]
        classes += [f"{name}/{label}" for label in own]
        offset += len(own)
    return np.concatenate(columns), classes
