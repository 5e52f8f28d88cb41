"""Mass per cluster before and after: a curve per level that stays small however many clusters there are."""

from typing import Any

import numpy as np
from jaxtyping import Int

from strata.curation.atlas.nodes import LevelCounts
from strata.curation.uniformity import kl_to_uniform

MAX_POINTS = 64  # of a curve; groups of more are smoother to look at and small to store


def mass_curve(before: Int[np.ndarray, " k"], after: Int[np.ndarray, " k"], quota: Any = None) -> dict[str, Any]:
    """Mean share of a cluster, as a multiple of the uniform share, over groups of clusters of like size.

    Clusters are ordered by their rows before, largest first (lowest id first on ties), and cut in at most
    ``MAX_POINTS`` groups of consecutive ranks. Clusters without a row before are left out.

    Returns:
        ``rank``: [g + 1] borders of the groups; ``before`` and ``after``: [g], 1 is uniform; ``gone``, ``whole`` and
        ``thinned``: clusters with no row left, all rows kept, and the others; ``kl``: nats to uniform.
    """
    order = np.flatnonzero(before > 0)
    order = order[np.argsort(-before[order], kind="stable")]
    k = len(order)
    border = np.unique(np.linspace(0, k, min(k, MAX_POINTS) + 1).round().astype(np.int64))
    curve: dict[str, Any] = {"rank": border.tolist(), "kl": {}}
    for name, counts in (("before", before), ("after", after), ("quota", quota)):
        if counts is None:
            continue
        own = counts[order]
        share = own / max(1, own.sum()) * k
        curve["kl"][name] = round(kl_to_uniform(own), 6) if own.sum() else None
        if name != "quota":
            means = np.add.reduceat(share, border[:-1]) / np.diff(border)
            curve[name] = [float(f"{value:.4g}") for value in means]
    return curve


def fates(counts: LevelCounts) -> dict[str, int]:
    """Of the clusters with rows: how many were kept whole, thinned, or lost every row."""
    live = counts.before > 0
    gone, whole = live & (counts.distinct == 0), live & (counts.lost == 0)
    return {"whole": int(whole.sum()), "thinned": int((live & ~gone & ~whole).sum()), "gone": int(gone.sum())}
