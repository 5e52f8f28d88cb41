"""What a pool needs before a probe may read it: a label in range for every item, and the same classes in all splits."""

from collections.abc import Mapping

import numpy as np

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool


def check_labels(split: str, pool: Pool) -> None:
    """Check one split.

    Raises:
        ConfigError: it is empty or has no labels at all.
        DataError: items without a label, or with one outside the classes; names the first of them.
    """
    field = f"benchmark.{split}"
    if len(pool) == 0:
        raise ConfigError(field, f"{pool.name} has no items", "check its path and split")
    if pool.labels is None or not pool.label_names:
        raise ConfigError(field, f"{pool.name} has no labels", "use a pool with labels and class names")
    labels = np.asarray(pool.labels)
    for bad, what in (
        (labels < 0, "no label"),
        (labels >= len(pool.label_names), f"a label outside the {len(pool.label_names)} classes"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{field}: {int(bad.sum())} of {len(pool)} items of {pool.name} have {what}, first row {row} "
                f"({pool.ids[row]!r}, label {labels[row]}); fix or remove them"
            )


def check_same_classes(pool_by_split: Mapping[str, Pool]) -> None:
    """Check that class id c means the same in all splits.

    Raises:
        DataError: two splits have other class names, or another order; names the first class that differs.
    """
    (first, reference), *others = pool_by_split.items()
    wanted = list(reference.label_names or [])
    for split, pool in others:
        found = list(pool.label_names or [])
        if found == wanted:
            continue
        at = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
        differs = (
            f"{len(wanted)} and {len(found)} of them"
            if at is None
            else f"class {at} is {wanted[at]!r} in {first} and {found[at]!r} in {split}"
        )
        raise DataError(
            f"benchmark.{split}: its classes are not those of {first}: {differs}; use splits of one data set"
        )
