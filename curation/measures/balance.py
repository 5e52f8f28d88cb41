"""How balanced a subset is over labelled classes, and how much of the tail it holds."""

import numpy as np

from strata.curation.balance import balance, tail_classes
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Findings, Measured

FEW = (1, 5)  # images of a tail class that must be there for it to be covered


class ClassBalance:
    """Balance of chosen rows over the classes that the pool has.

    Values:
        ``effective_classes``: exp of the entropy of the shares of the classes: as many equal classes have that entropy.
        ``normalized_entropy``: entropy / log of the number of the pool's classes, 1 = balanced.
        ``coverage``: share of the pool's classes with at least one row.
        ``tail_coverage_1``, ``tail_coverage_5``: share of the tail classes with at least 1, 5 rows, a row counted as
        often as it was drawn. A class with fewer in the pool counts as missed unless rows repeat; see the oracle's.
        ``tail_share``: share of the labelled rows that are of tail classes.
        ``rows``: how many were chosen.

    Args:
        tail: the tail is this share of the pool's classes (rounded, at least one): the rarest by their rows in the
            pool, of equally rare ones those of the lowest id.
    """

    VERSION = 1
    needs_rows = True
    needs_tree = False
    needs_reference = False
    metrics = (
        "effective_classes",
        "normalized_entropy",
        "coverage",
        *(f"tail_coverage_{few}" for few in FEW),
        "tail_share",
        "rows",
    )

    def __init__(self, tail: float = 1 / 3) -> None:
        if not 0 < tail <= 1:
            raise ConfigError("measure.tail", f"{tail}", "give a share of the classes, above 0 and at most 1")
        self.tail = tail

    def __call__(self, measured: Measured) -> Findings:
        """Raises a DataError for a pool without labels, and for points that are not rows of the pool."""
        if measured.classes is None or not (measured.classes >= 0).any():
            raise DataError("balance needs labels and the pool has none; use a labelled pool")
        if measured.rows is None:
            raise DataError("balance is that of rows, and centroids are none; set measured=subset or measured=pool")
        in_pool = np.bincount(measured.classes[measured.classes >= 0], minlength=measured.n_classes)
        there = np.flatnonzero(in_pool)  # a class without a row in the pool can be in no subset
        number = np.full(measured.n_classes + 1, -1)  # the last one: where -1 points to
        number[there] = np.arange(len(there))
        pool, chosen = number[measured.classes], number[measured.classes[measured.rows]]
        found = balance(chosen, len(there))
        counts = np.bincount(chosen[chosen >= 0], minlength=len(there))
        tail = tail_classes(pool, len(there), self.tail)
        values = {
            "effective_classes": found.effective_classes,
            "normalized_entropy": found.normalized_entropy,
            "coverage": found.coverage,
            **{f"tail_coverage_{few}": float((counts[tail] >= few).mean()) for few in FEW},
            "tail_share": float(counts[tail].sum()) / max(found.n_labelled, 1),
            "rows": float(found.n),
        }
        return Findings(values, {"class": there, "items": in_pool[there], "chosen": counts})
