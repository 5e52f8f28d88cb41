"""Draw exactly n different rows so that each is in the sample with a given probability."""

import numpy as np
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError


def proportional(weights: Float[np.ndarray, " m"], n: int) -> Float[np.ndarray, " m"]:
    """Probabilities min(1, c w) that add up to ``n``, at most the number of rows: float64 [m].

    Rows of weight 0 share what the others cannot take (the limit of an ever smaller weight).

    Raises:
        ConfigError: a weight is negative or not finite.
    """
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigError("sampler", "a weight that is negative or not finite", "check the embeddings")
    positive = int((weights > 0).sum())
    if n >= positive:
        rest = (n - positive) / max(len(weights) - positive, 1)
        return np.where(weights > 0, 1.0, rest)
    order = np.argsort(-weights, kind="stable")
    sorted_weights = weights[order]
    left = np.cumsum(sorted_weights[::-1])[::-1]  # sum of the weights from each on
    scale = (n - np.arange(len(weights))[: n + 1]) / left[: n + 1]  # c, if the first i rows are sure
    n_sure = int(np.argmax(scale * sorted_weights[: n + 1] <= 1))
    return np.minimum(1.0, scale[n_sure] * weights)


def draw_systematic(
    probability: Float[np.ndarray, " m"], n: int, order: Int[np.ndarray, " m"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """``n`` different positions, position i with ``probability[i]``: systematic sampling (Madow, 1949).

    The probabilities, laid one after the other in ``order``, make a line of length n; the positions under a comb with
    teeth 1 apart, shifted at random, are drawn. So of any stretch of the order whose probabilities add up to s, the
    whole part of s or one more is drawn.

    Args:
        probability: in [0, 1], adding up to ``n`` but for rounding.
        order: a permutation of 0 .. m - 1.
    """
    if n == 0:
        return np.empty(0, np.int64)
    line = np.cumsum(probability[order])
    teeth = (rng.random() + np.arange(n)) * (line[-1] / n)
    hit = np.unique(np.searchsorted(line, np.minimum(teeth, np.nextafter(line[-1], 0)), side="right"))
    drawn = order[hit]
    if len(drawn) < n:  # two teeth in a probability of 1 that rounding made longer: the surest of the others
        free = probability.copy()
        free[drawn] = -1
        drawn = np.concatenate([drawn, np.argsort(-free, kind="stable")[: n - len(drawn)]])
    return drawn.astype(np.int64)
