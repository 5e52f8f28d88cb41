"""The items of a pool whose column has a value: one split of a file that holds several."""

from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.items import pool_name
from strata.curation.pools.subset import SubsetPool


class WherePool(SubsetPool):
    """Rows of ``pool`` where ``column`` is ``value`` (or one of a list of values), in the pool's order.

    Labels keep the classes of the whole pool, so that splits of one file agree on them.

    Raises:
        ConfigError: the pool has no such column, or no row has the value.
    """

    def __init__(self, pool: Pool, column: str, value: Any, name: str | None = None) -> None:
        read = getattr(pool, "column", None)
        if read is None:
            raise ConfigError(
                "pool.column", f"{pool.name!r} has no columns", "use a pool of JSONL, Parquet or datasets"
            )
        wanted = value if isinstance(value, list | tuple) else [value]
        values = read(column)
        rows = np.flatnonzero(np.isin(values.astype(str), [str(each) for each in wanted]))
        if not len(rows):
            seen = ", ".join(sorted(set(values.astype(str).tolist()))[:10])
            raise ConfigError("pool.value", f"no row has {column} {value!r}", f"choose among {seen}")
        super().__init__(pool, rows, pool_name(name, pool.name, "+".join(map(str, wanted))))
