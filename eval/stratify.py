"""Stratified draws: a part of a labelled set that keeps its class proportions."""

import numpy as np
from jaxtyping import Int


def stratified_sample(labels: Int[np.ndarray, " n"], size: int, seed: int, *, leave_one: bool = False) -> np.ndarray:
    """Draw ``size`` rows whose class proportions follow those of ``labels``.

    Each class gets its exact share rounded down; the rows still missing go to the classes with the largest remainder
    (equal remainders in a seeded random order). The draw depends on nothing but the arguments.

    Args:
        labels: class ids, >= 0.
        size: rows wanted.
        seed: of the draw.
        leave_one: never take the last row of a class, so that what is left over still holds all classes.

    Returns:
        Rows, sorted, int64 [min(size, rows that may be drawn)].
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    capacity = np.maximum(counts - 1, 0) if leave_one else counts
    size = min(size, int(capacity.sum()))
    exact = counts * (size / max(len(labels), 1))
    quota = np.minimum(np.floor(exact).astype(np.int64), capacity)
    order = rng.permutation(len(counts))
    by_remainder = order[np.argsort(-(exact - quota)[order], kind="stable")]
    while (missing := size - int(quota.sum())) > 0:
        open_classes = by_remainder[quota[by_remainder] < capacity[by_remainder]]
        quota[open_classes[:missing]] += 1
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]  # classes in order, random inside each
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < np.repeat(quota, counts)]).astype(np.int64)
