"""A pool that tells more of another pool's items: the items and ids are that pool's."""

from collections.abc import Sequence
from typing import Any

from strata.curation.pools.base import Pool


class SameItems:
    """Base of such pools.

    Args:
        pool: whose items they are.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __len__(self) -> int:
        return len(self._pool)

    def __getitem__(self, row: int) -> Any:
        """The pool's item. Raises as the pool does."""
        return self._pool[row]

    @property
    def ids(self) -> Sequence[str]:
        """The pool's."""
        return self._pool.ids
