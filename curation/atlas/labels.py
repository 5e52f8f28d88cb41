"""Which labels the clusters hold, where there are labels."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from strata.curation.atlas.mass import mass_curve
from strata.curation.balance import balance
from strata.curation.subset import Selection

TOP = 3  # labels told per cluster
LISTED = 12  # largest and rarest classes told of the whole
NAME_LENGTH = 80  # characters of a name that are shown


def label_name(names: Sequence[str] | None, label: int) -> str:
    """What a label is called on the page."""
    name = str(names[label]) if names and label < len(names) else f"label {label}"
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"


def compose(
    clusters: Int[np.ndarray, " n"], k: int, labels: Int[np.ndarray, " n"], repeats: Int[np.ndarray, " n"]
) -> dict[str, NDArray[Any]]:
    """Labels of each of k clusters.

    Args:
        clusters: of each row of the pool. labels: of each row, -1 for none. repeats: of each row in the subset, 0 = out.

    Returns:
        ``label``, ``before``, ``after``: int64 [k, TOP], the most frequent labels of the cluster in the pool (lowest
        label on ties; -1 where there are fewer) with their counts; ``effective_before``, ``effective_after``:
        float64 [k], exp(entropy) of the labels, 0 without any.
    """
    has = labels >= 0
    width = int(labels.max()) + 1
    pairs, place = np.unique(clusters[has] * width + labels[has], return_inverse=True)
    cluster, label = np.divmod(pairs, width)
    before = np.bincount(place, minlength=len(pairs))
    after = np.bincount(place, repeats[has], minlength=len(pairs)).astype(np.int64)
    order = np.lexsort((label, -before, cluster))
    first = np.concatenate([[0], np.cumsum(np.bincount(cluster, minlength=k))])
    rank = np.arange(len(pairs)) - first[cluster[order]]
    top = order[rank < TOP]
    found: dict[str, NDArray[Any]] = {}
    for name, values, empty in (("label", label, -1), ("before", before, 0), ("after", after, 0)):
        table = np.full((k, TOP), empty, np.int64)
        table[cluster[top], rank[rank < TOP]] = values[top]
        found[name] = table
    found["effective_before"] = _effective(cluster, before, k)
    found["effective_after"] = _effective(cluster, after, k)
    return found


def _effective(cluster: NDArray[np.int64], counts: NDArray[np.int64], k: int) -> Float[np.ndarray, " k"]:
    total = np.bincount(cluster, counts, minlength=k)
    share = counts / np.maximum(total, 1)[cluster]
    terms = -share * np.log(np.where(share > 0, share, 1.0))
    return np.where(total > 0, np.exp(np.bincount(cluster, terms, minlength=k)), 0.0)


def whole_pool(labels: Int[np.ndarray, " n"], names: Sequence[str] | None, selection: Selection) -> dict[str, Any]:
    """Balance over all classes before and after, their curve, and [class, rows before, rows after] of some classes."""
    k = len(names) if names else int(labels.max()) + 1
    chosen = labels[selection.indices]
    before = np.bincount(labels[labels >= 0], minlength=k)
    after = np.bincount(chosen[chosen >= 0], minlength=k)
    order = np.flatnonzero(before > 0)
    order = order[np.argsort(-before[order], kind="stable")]
    rare = order[LISTED:][-LISTED:]
    listed = [[int(label), int(before[label]), int(after[label])] for label in [*order[:LISTED], *rare]]
    return {
        "before": asdict(balance(labels, k, pool_labels=labels)),
        "after": asdict(balance(chosen, k, pool_labels=labels)),
        "curve": mass_curve(before, after),
        "largest": listed[:LISTED],
        "rarest": listed[LISTED:],
    }
