"""Drawing points inside clusters once each cluster's quota is known (paper section 3.3: r, c, f; Table 3)."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from strata.curation.allocation import first_of_group, shuffled

Within = Literal["random", "closest", "furthest"]


def draw_within(
    labels: Int[np.ndarray, " n"],
    quota: Int[np.ndarray, " k"],
    within: Within,
    rng: np.random.Generator,
    distance: Float[np.ndarray, " n"] | None = None,
    old: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    """How often each point is drawn so that cluster i gives ``quota[i]``: int64 [n].

    A cluster of s points with quota u gives every point u // s times and u % s points once more: random ones, or the
    closest or furthest from the centroid (lowest row on equal distances). For these two ``distance`` [n] is needed.
    With ``old``, how often each point was drawn before, points drawn more than u // s times come first.
    """
    size = np.bincount(labels, minlength=len(quota))
    copies, extra = np.divmod(quota, np.maximum(size, 1))
    counts = copies[labels]
    candidates = np.flatnonzero(extra[labels] > 0)
    order = _order(len(candidates), within, rng, None if distance is None else distance[candidates])
    if old is not None:
        order = _first(order, (old > counts)[candidates])
    counts[candidates[first_of_group(labels[candidates], order, extra)]] += 1
    return counts


def _order(
    m: int, within: Within, rng: np.random.Generator, distance: Float[np.ndarray, " m"] | None
) -> NDArray[np.int64]:
    if within == "random":
        return shuffled(m, rng)
    assert distance is not None
    return np.argsort(distance if within == "closest" else -distance, kind="stable")


def _first(order: NDArray[np.int64], favored: Bool[np.ndarray, " m"]) -> NDArray[np.int64]:
    """The order with the favored ones in front, else as it is."""
    in_front = favored[order]
    return np.concatenate([order[in_front], order[~in_front]])
