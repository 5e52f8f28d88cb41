"""How balanced a set is over labelled classes (or clusters)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from strata.curation.errors import ConfigError, DataError


@dataclass(frozen=True)
class Balance:
    """Balance of labels over ``n_classes`` classes; items without a label (-1) only count in ``n``."""

    n: int
    n_labelled: int
    n_classes: int
    entropy: float  # nats, of the shares of the classes
    normalized_entropy: float  # entropy / log n_classes: 1 is balanced over all classes
    effective_classes: float  # exp(entropy): as many balanced classes have this entropy
    coverage: float  # share of the classes with at least one item
    largest_share: float  # of the labelled items, those in the largest class
    tail_items: int | None  # items in the rarest half of the classes by the pool's frequency; None without a pool
    tail_share: float | None  # the same as a share of the labelled items


def balance(labels: ArrayLike, n_classes: int, *, pool_labels: ArrayLike | None = None) -> Balance:
    """Balance of integer labels [n], -1 for none.

    Args:
        labels: class of each item, one per copy where an item is repeated.
        n_classes: number of classes, also those without an item.
        pool_labels: labels of the pool that the items are from; it says which classes are the tail: the n_classes // 2
            rarest, of equally rare ones those of the lowest id.

    Raises:
        ConfigError: n_classes is below 1.
        DataError: a label is outside [-1, n_classes).
    """
    counts = _counts(labels, n_classes)
    total = int(counts.sum())
    shares = counts[counts > 0] / max(total, 1)
    entropy = max(0.0, float(-(shares * np.log(shares)).sum()))
    tail = None
    if pool_labels is not None:
        rarest = np.argsort(_counts(pool_labels, n_classes), kind="stable")[: n_classes // 2]
        tail = int(counts[rarest].sum())
    return Balance(
        n=int(np.size(labels)),
        n_labelled=total,
        n_classes=n_classes,
        entropy=entropy,
        normalized_entropy=entropy / math.log(n_classes) if n_classes > 1 else 1.0,
        effective_classes=math.exp(entropy) if total else 0.0,
        coverage=float((counts > 0).mean()),
        largest_share=float(counts.max()) / max(total, 1),
        tail_items=tail,
        tail_share=None if tail is None else tail / max(total, 1),
    )


def tail_classes(pool_labels: ArrayLike, n_classes: int, share: float) -> Int[np.ndarray, " t"]:
    """The rarest classes of a pool, rarest first; of equally rare ones those of the lowest id come first.

    Args:
        pool_labels: class of each item [n], -1 for none.
        n_classes: number of classes, also those without an item (which are the rarest).
        share: of the classes that are the tail, rounded to a whole number, at least one.
    """
    order = np.argsort(_counts(pool_labels, n_classes), kind="stable")
    return order[: max(1, round(share * n_classes))]


def _counts(labels: ArrayLike, n_classes: int) -> Int[np.ndarray, " c"]:
    if n_classes < 1:
        raise ConfigError("n_classes", f"{n_classes}", "give the number of classes, 1 or more")
    values = np.asarray(labels, np.int64)
    if values.size and not (values.min() >= -1 and values.max() < n_classes):
        raise DataError(
            f"labels {values.min()} to {values.max()} for {n_classes} classes; use -1 (none) to {n_classes - 1}"
        )
    return np.bincount(values[values >= 0], minlength=n_classes)
