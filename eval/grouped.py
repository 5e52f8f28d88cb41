"""A pool with the groups of its items named, so that accuracy can be told by group."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.subset import SubsetPool
from strata.eval.features import GROUP
from strata.eval.same_items import SameItems


class GroupedPool(SameItems):
    """The items of ``pool`` with columns of it as groups, e.g. the domain of PACS, beside those that it has already.

    Args:
        pool: with a method ``column(name)`` that gives the value of each item, [n].
        groups: names of columns.

    Raises:
        ConfigError: it has no such column.
    """

    def __init__(self, pool: Pool, groups: Sequence[str]) -> None:
        super().__init__(pool)
        self.name, self.labels, self.label_names = pool.name, pool.labels, pool.label_names
        self.candidates = getattr(pool, "candidates", None)
        self.extra: dict[str, list[Any]] = dict(getattr(pool, "extra", {}))
        for group in groups:
            self.extra[GROUP + group] = [str(value) for value in column_of(pool, group)]

    @property
    def fingerprint(self) -> str:
        """Of the pool's and the groups."""
        return digest_json({"reader": "grouped", "pool": self._pool.fingerprint, "extra": self.extra})

    def describe(self) -> dict[str, Any]:
        """The pool, and what is grouped."""
        return {**self._pool.describe(), "groups": [name for name in self.extra if name.startswith(GROUP)]}


def choose_rows(pool: Pool, column: str, values: Sequence[Any], name: str | None = None) -> SubsetPool:
    """The items whose column has one of some values: e.g. the photographs of PACS.

    Args:
        pool: with a method ``column(name)``.
        column: its name.
        values: to keep.
        name: in tables; default: the pool's and the values.

    Raises:
        ConfigError: it has no such column, or no such item.
    """
    found = column_of(pool, column)
    rows = np.flatnonzero(np.isin(found, list(values)))
    if not len(rows):
        known = ", ".join(str(value) for value in np.unique(found)[:12])
        raise ConfigError("pool.values", f"no item of {pool.name} has {column} in {list(values)}", f"it has {known}")
    return SubsetPool(pool, rows, name=name or f"{pool.name}-{'+'.join(str(value) for value in values)}")


def column_of(pool: Pool, name: str) -> np.ndarray:
    """A column of a pool, [n]. Raises a ConfigError where it has none."""
    column = getattr(pool, "column", None)
    if column is None:
        raise ConfigError("benchmark.groups", f"{pool.name} has no columns, so none called {name!r}", "leave it out")
    values: np.ndarray = column(name)
    return values
