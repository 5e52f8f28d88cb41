"""One part of a pool, the same for everybody: which part an item is in depends on its id alone."""

import hashlib
from collections.abc import Mapping

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import pool_name
from strata.curation.pools.subset import SubsetPool

PARTS = {"train": 0.94, "valid": 0.03, "test": 0.03}


class SplitPool(SubsetPool):
    """The rows whose id hashes into ``part``. A pool that grows keeps every item where it was.

    Args:
        pool: the pool to split.
        part: which part.
        shares: part -> share of the items, in this order; they sum to 1.
        seed: another one gives another split.
        name: defaults to ``<pool>-<part>``.

    Raises:
        ConfigError: an unknown part, shares that do not sum to 1, or a part without items.
    """

    def __init__(
        self,
        pool: Pool,
        part: str = "train",
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        shares = dict(PARTS if shares is None else shares)
        if part not in shares:
            raise ConfigError("pool.part", f"{part!r} is unknown", f"choose one of {', '.join(shares)}")
        if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
            raise ConfigError("pool.shares", f"{shares}", "give shares that sum to 1")
        ends = np.cumsum(list(shares.values()))
        index = list(shares).index(part)
        low, high = (float(ends[index - 1]) if index else 0.0), float(ends[index])
        high = 2.0 if index == len(shares) - 1 else high  # the last part takes what rounding leaves
        place = np.array([_place(item_id, seed) for item_id in pool.ids])
        rows = np.flatnonzero((place >= low) & (place < high))
        if not len(rows):
            raise ConfigError("pool.part", f"{part!r} of {pool.name!r} has no items", "give it a larger share")
        super().__init__(pool, rows, pool_name(name, pool.name, part))
        self._fingerprint = digest_json(
            {"reader": "split", "pool": pool.fingerprint, "part": part, "shares": shares, "seed": seed}
        )

    @property
    def fingerprint(self) -> str:
        """Of the pool's fingerprint and the split's settings."""
        return self._fingerprint


def _place(item_id: str, seed: int) -> float:
    """Where in [0, 1) an id lies."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
