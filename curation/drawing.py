"""Drawing points inside clusters once each cluster's quota is known."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from strata.curation.allocation import first_of_group

Within = Literal["random", "closest", "furthest"]


def draw_within(
    labels: Int[np.ndarray, " n"],
    quota: Int[np.ndarray, " k"],
    within: Within,
    rng: np.random.Generator,
    distance: Float[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    """How often each point is drawn so that cluster i gives ``quota[i]``: int64 [n].

    A cluster of s points with quota u gives every point u // s times and u % s points once more: random ones, or the
    closest or furthest from the centroid (lowest row on equal distances). For these two ``distance`` [n] is needed.
    """
    size = np.bincount(labels, minlength=len(quota))
    copies, extra = np.divmod(quota, np.maximum(size, 1))
    counts = copies[labels]
    candidates = np.flatnonzero(extra[labels] > 0)
    if within == "random":
        key = rng.permutation(len(candidates))
    else:
        assert distance is not None
        own = distance[candidates]
        key = np.empty(len(candidates), np.int64)
        key[np.argsort(own if within == "closest" else -own, kind="stable")] = np.arange(len(candidates))
    counts[candidates[first_of_group(labels[candidates], key, extra)]] += 1
    return counts
