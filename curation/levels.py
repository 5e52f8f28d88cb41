"""How many levels and clusters: a rule from the sizes of pool and subset, for those who do not want to choose."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from strata.curation.errors import ConfigError

AUTO = "auto"
FIRST_STEP = 100_000  # clusters that k-means makes at once on a two-step level (the paper's level 1: 100 k, 100 splits)
SCALABLE_FROM = 10_000  # clusters from which k-means++ costs too many passes
_ROWS_PER_CLUSTER, _PLAIN_ROWS = 25, 1_000_000
_ROWS_PER_TOP, _SIZE_PER_TOP, _MOST_TOP, _LEAST_TOP = 500, 20, 10_000, 10


def auto_levels(n: int, size: int | None) -> list[int]:
    """Clusters of each level, level 1 first, for a pool of ``n`` rows and a subset of ``size`` (None: not limited).

    The paper derives no rule (it says only: larger clusters low, smaller high); this one runs through what it used, and
    through sizes that work for small pools (``hierarchy=micro``).

    * Level 1: n / m clusters with m = 25 rows each, and m = 25 (n / 1M)^(1/6) beyond a million rows: 40 at the paper's
      18M satellite tiles (paper: 36), 73 to 75 at its 641M to 743M texts and images (paper: 64 to 79).
    * Top level: n / 500 clusters, at most size / 20 (so that each gives 20 rows or more), at most 10,000 (the paper's
      top, whether of 18M or of 743M rows), and at least 10.
    * Between: as few steps as keep their (geometric) mean at 10 or less, the topmost half of the next and a quarter of
      those below. The paper's steps are 20, 10, 5 (web images) and 10, 5 (satellite); so are these.

    Web, 743M rows: 9.9M / 500k / 50k / 10k (paper: 10M / 500k / 50k / 10k). Satellite, 18M: 440k / 47k / 10k (paper:
    500k / 50k / 10k). 25,000 rows: 1,000 / 160 / 50. Where level 1 would have less than twice the clusters of the top
    there is one level. Numbers are rounded to two digits.

    Source: arXiv:2405.15613, section 4.1 (pools and clusters), section 3.2 (why levels).

    Raises:
        ConfigError: no rows.
    """
    if n < 1:
        raise ConfigError("hierarchy.n_clusters", f"auto for {n} rows", "give a pool with items")
    rows_each = _ROWS_PER_CLUSTER * max(1.0, n / _PLAIN_ROWS) ** (1 / 6)
    first = min(n, max(2, _round(n / rows_each)))
    allowed = math.inf if size is None else size / _SIZE_PER_TOP
    top = max(_LEAST_TOP, _round(min(n / _ROWS_PER_TOP, allowed, _MOST_TOP)))
    ratio = first / top
    if ratio < 2:
        return [first]
    steps = max(1, math.ceil(round(math.log10(ratio), 1)))  # rounded: 9.9M / 10k is three steps, as 10M / 10k
    weights = _weights(steps)
    while (last := (ratio / math.prod(weights)) ** (1 / len(weights))) < 2 and len(weights) > 1:
        weights.pop()
    levels, clusters = [top], float(top)
    for weight in weights[:-1]:
        clusters *= last * weight
        levels.append(_round(clusters))
    return [first, *reversed(levels)]


def resolve_levels(settings: Mapping[str, Any], n: int, size: int | None, field: str = "hierarchy") -> dict[str, Any]:
    """Settings of ``HierarchicalKMeans`` with every "auto" replaced (but of ``dtype`` and ``device``, which it knows).

    ``n_clusters``: see ``auto_levels``; more than 100,000 on level 1 are made in two steps, as in the paper. On the rest
    as the paper's code for web images: no resampling on level 1 and 9 above, of half the mean cluster size; greedy
    k-means++, scalable seeding from 10,000 clusters on.

    Args:
        settings: of the hierarchy group; ``n_clusters``, ``n_splits``, ``n_resamples``, ``resample_size`` and ``init``
            may be "auto".
        n: rows of the pool.
        size: rows of the subset, or None.
        field: where the settings are said, for errors.

    Raises:
        ConfigError: ``n_splits`` is auto while ``n_clusters`` is not, and the like that cannot be resolved.
    """
    chosen = dict(settings)
    if not any(isinstance(value, str) and value == AUTO for name, value in settings.items() if name in _RESOLVED):
        return chosen
    if chosen.get("n_clusters") == AUTO:
        levels = auto_levels(n, size)
        splits = [math.ceil(levels[0] / FIRST_STEP), *[1] * (len(levels) - 1)]
        if chosen.get("n_splits", 1) not in (AUTO, 1):
            raise ConfigError(f"{field}.n_splits", f"{chosen['n_splits']} with n_clusters=auto", "leave it at auto")
        chosen["n_clusters"] = [math.ceil(levels[0] / splits[0]), *levels[1:]]
        chosen["n_splits"] = splits
    given = chosen["n_clusters"]
    if not isinstance(given, list | tuple) or not all(isinstance(k, int) and k > 0 for k in given):
        raise ConfigError(f"{field}.n_clusters", f"{given!r}", "give auto, or a list such as [1000,200,50]")
    if chosen.get("n_splits") == AUTO:
        chosen["n_splits"] = [1] * len(given)
    splits = chosen.get("n_splits", 1)
    per_level = [splits] * len(given) if isinstance(splits, int) else list(splits)
    made = [k * s for k, s in zip(given, per_level, strict=False)]
    if chosen.get("n_resamples") == AUTO:
        chosen["n_resamples"] = [0] + [9] * (len(given) - 1)
    if chosen.get("resample_size") == AUTO:
        means = [below / k for below, k in itertools.pairwise(made)]
        chosen["resample_size"] = [1, *(max(1, math.ceil(mean / 2)) for mean in means)]
    if chosen.get("init") == AUTO:
        chosen["init"] = ["scalable" if k >= SCALABLE_FROM else "k-means++" for k in given]
    return chosen


_RESOLVED = ("n_clusters", "n_splits", "n_resamples", "resample_size", "init")


def _weights(steps: int) -> list[int]:
    """How large the steps are from the top down, against the topmost: 1, 2, 4, 4, ... (the paper: 5, 10, 20)."""
    return [min(2**step, 4) for step in range(steps)]


def _round(value: float) -> int:
    """To two digits from 100 on, else to a whole number."""
    digits = 1 - math.floor(math.log10(value)) if value >= 100 else 0
    return max(1, round(round(value, digits)))
