"""What a sampler or a measure may look at beside the pool's rows, labels and clusters."""

from typing import Any

from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool

REFERENCES = ("seeds", "test")  # other pools: ``references.seeds`` is retrieved from, ``references.test`` kept out


def metadata_column(pool: Pool, name: str) -> NDArray[Any]:
    """A column of the pool, [n].

    Raises:
        ConfigError: there is none of that name, or this kind of pool has no columns.
    """
    column = getattr(pool, "column", None)
    if column is None:
        raise ConfigError("sampler.column", f"pool {pool.name!r} has no columns", "use a Parquet or Hugging Face pool")
    values: NDArray[Any] = column(name)
    return values
