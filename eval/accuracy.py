"""Accuracy over images and over classes, each with a 95 % interval by bootstrap over the test images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

LEVEL = 0.95
N_DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value in 0..1 and its 95 % interval. ``n`` counts what was averaged over: images, or classes."""

    value: float
    low: float
    high: float
    n: int


def top1(correct: Bool[np.ndarray, " n"]) -> Estimate:
    """Share of images that are right.

    The interval is the percentile bootstrap in closed form: the mean of n draws with replacement from n right-or-wrong
    values with mean p is Binomial(n, p) / n, so its quantiles need no random numbers. With p = 0 or 1 it has no width.
    """
    from scipy.stats import binom

    n, value = len(correct), float(np.mean(correct))
    low, high = (float(binom.ppf(q, n, value)) / n for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, low, high, n)


def mean_per_class(labels: Int[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean over classes of the share of their images that are right. Classes without test images are left out.

    The interval is the percentile bootstrap over images, in ``N_DRAWS`` seeded draws. A draw of n images is one draw
    from the multinomial over the cells (class, right or wrong); a class that a draw misses is left out of its mean.
    """
    present, classes = np.unique(labels, return_inverse=True)
    n_right = np.bincount(classes, weights=correct, minlength=len(present))
    n_images = np.bincount(classes, minlength=len(present))
    cells = np.concatenate([n_right, n_images - n_right]) / len(labels)
    rng = np.random.default_rng(seed)
    means = np.empty(N_DRAWS)
    chunk = max(1, 10**7 // len(cells))  # draws at once: bounds memory at 80 MB for any number of classes
    for start in range(0, N_DRAWS, chunk):
        drawn = rng.multinomial(len(labels), cells, size=min(chunk, N_DRAWS - start))
        right, wrong = drawn[:, : len(present)], drawn[:, len(present) :]
        total = right + wrong
        per_class = right / np.maximum(total, 1)
        means[start : start + chunk] = per_class.sum(axis=1) / (total > 0).sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.mean(n_right / n_images)), float(low), float(high), len(present))
