"""Retrieval out of any labelled set: an image of the same class is what a query looks for."""

from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.subset import SubsetPool
from strata.eval.grouped import column_of
from strata.eval.labels import check_labels, check_same_classes
from strata.eval.same_items import SameItems


class QueryPool(SameItems):
    """Queries with rows of a database as columns "easy", "hard" and "junk"; the items are those of ``pool``."""

    def __init__(self, pool: Pool, extra: dict[str, list[list[int]]], database: str) -> None:
        super().__init__(pool)
        self.extra, self._database = extra, database
        self.name, self.labels, self.label_names = pool.name, pool.labels, pool.label_names

    @property
    def fingerprint(self) -> str:
        """Of the pool's, the database's, and what is relevant."""
        parts = {"pool": self._pool.fingerprint, "database": self._database, "extra": self.extra}
        return digest_json({"reader": "queries", **parts})

    def describe(self) -> dict[str, Any]:
        """The pool's."""
        return self._pool.describe()


def by_label(
    queries: Pool, database: Pool, hard_where_differs: str | None = None, limit: int | None = None
) -> tuple[Any, Any]:
    """Queries and database of one labelled set, in the terms of revisited Oxford.

    Args:
        queries: labelled images.
        database: other images with the same classes: no query may be among them.
        hard_where_differs: a column; an image of the query's class is hard where it has another value there (another
            style, say), else easy. None: all are easy.
        limit: take at most so many queries, evenly spaced.

    Raises:
        ConfigError: no labels. DataError: other classes.
    """
    for split, pool in {"queries": queries, "database": database}.items():
        check_labels(split, pool)
    check_same_classes({"queries": queries, "database": database})
    labels, wanted = np.asarray(database.labels), np.asarray(queries.labels)
    rows = np.arange(len(queries))
    if limit is not None:
        if limit < 1:
            raise ConfigError("benchmark.limit", f"{limit} queries", "use 1 or more")
        rows = np.unique(np.linspace(0, len(queries) - 1, min(limit, len(queries))).round().astype(int))
    of_query = None if hard_where_differs is None else column_of(queries, hard_where_differs)
    of_image = None if hard_where_differs is None else column_of(database, hard_where_differs)
    extra: dict[str, list[list[int]]] = {"easy": [], "hard": [], "junk": []}
    for row in rows.tolist():
        same = labels == wanted[row]
        hard = (
            np.zeros(len(labels), bool) if of_image is None or of_query is None else same & (of_image != of_query[row])
        )
        extra["easy"].append(np.flatnonzero(same & ~hard).tolist())
        extra["hard"].append(np.flatnonzero(hard).tolist())
        extra["junk"].append([])
    chosen = queries if len(rows) == len(queries) else SubsetPool(queries, rows, name=queries.name)
    return QueryPool(chosen, extra, database.fingerprint), database
