"""A test set whose classes are others than those of train, by a map that people made: which of train's classes count as right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind, kind_of
from strata.curation.pools.fingerprint import digest_json
from strata.eval.same_items import SameItems


class RenamedPool(SameItems):
    """A labelled pool under the classes of another: each own class is one or several of theirs.

    A prediction is right if it is any class that the item's own class stands for; only classes that some own class stands
    for can be predicted, as with ObjectNet's classes of ImageNet (Barbu et al., NeurIPS 2019).

    Args:
        pool: the test set.
        classes_of: a pool with the classes to predict, e.g. the training split.
        accepted: own class -> classes of the other; all own classes that items have must be there.
        name: defaults to the pool's.

    Raises:
        ConfigError: an own class without an entry, or a name that either pool has not.
    """

    def __init__(
        self, pool: Pool, classes_of: Pool, accepted: Mapping[str, Sequence[str]], name: str | None = None
    ) -> None:
        if pool.labels is None or pool.label_names is None or classes_of.label_names is None:
            lacking = pool if pool.labels is None or pool.label_names is None else classes_of
            raise ConfigError("pool.pool", f"{lacking.name!r} has no named classes", "give labelled pools")
        theirs = {label: i for i, label in enumerate(classes_of.label_names)}
        unknown = [label for label in accepted if label not in pool.label_names]
        if unknown:
            problem = f"{unknown[0]!r} is no class of {pool.name!r}"
            raise ConfigError("pool.accepted", problem, f"name some of {', '.join(pool.label_names)}")
        right: dict[int, list[int]] = {}
        for label, names in accepted.items():
            wrong = [each for each in names if each not in theirs]
            if wrong or not names:
                problem = f"{label!r} stands for {wrong[0] if wrong else 'nothing'}, no class of {classes_of.name!r}"
                raise ConfigError("pool.accepted", problem, "name classes of the training set")
            right[pool.label_names.index(label)] = sorted(theirs[each] for each in names)
        lost = sorted({int(label) for label in pool.labels} - set(right))
        if lost:
            lost_name = pool.label_names[lost[0]] if lost[0] >= 0 else "unlabelled items"
            raise ConfigError("pool.accepted", f"says nothing of {lost_name!r} of {pool.name!r}", "add it")
        rows = [right[int(label)] for label in pool.labels]
        super().__init__(pool)
        self._accepted = {label: sorted(names) for label, names in accepted.items()}
        self.name = name or pool.name
        self.kind: Kind = kind_of(pool)
        self.labels = np.array([classes[0] for classes in rows], np.int64)
        self.label_names = list(classes_of.label_names)
        self.candidates = sorted({each for classes in right.values() for each in classes})
        self.extra = {**getattr(pool, "extra", {}), "accepted": rows}

    @property
    def fingerprint(self) -> str:
        """Of the pool, the classes and the map."""
        told = {"pool": self._pool.fingerprint, "classes": self.label_names, "accepted": self._accepted}
        return digest_json({"reader": "renamed", **told})

    def describe(self) -> dict[str, Any]:
        """The pool and the map."""
        return {"reader": "renamed", "pool": self._pool.describe(), "accepted": self._accepted}
