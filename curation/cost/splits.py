"""When to make a level in two steps: k-means, then every cluster split on its own (``n_splits``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strata.curation.cost.fit import LevelCost, cost_of_fit, total_seconds
from strata.curation.cost.work import Rates

SPLITS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_GAIN = 1.5  # a proposal saves at least this factor of the level's time


@dataclass(frozen=True)
class Proposal:
    """Another way to the same number of clusters on a level."""

    level: int  # 1 is the lowest
    k: int
    splits: int
    before: float  # seconds of the level as it is
    after: float


def proposals(
    levels: list[LevelCost], d: int, settings: Mapping[str, Any], rates: Rates, threads: int = 1
) -> list[Proposal]:
    """For each level the fastest of ``SPLITS`` that gives as many clusters, where it is 1.5 times as fast or more.

    A level that resamples is left as it is made there too. Two steps end with one assignment to all clusters, so what
    they save is the init and all but the last of the iterations.
    """
    found = []
    for number, level in enumerate(levels, 1):
        own = _alone(settings, number - 1, len(levels))
        times: dict[int, float] = {}
        for splits in {level.splits, *(s for s in SPLITS if level.clusters % s == 0 and level.clusters > 2 * s)}:
            fit = cost_of_fit(level.n, d, own(level.clusters // splits, splits), threads=threads)
            times[splits] = total_seconds(fit, rates, threads)
        best = min(times, key=lambda splits: times[splits])
        if times[level.splits] > _GAIN * times[best]:
            found.append(Proposal(number, level.clusters // best, best, times[level.splits], times[best]))
    return found


def _alone(settings: Mapping[str, Any], index: int, depth: int) -> Any:
    """Settings of one level as a fit of its own, given its clusters and splits."""

    def pick(name: str, default: Any) -> Any:
        value = settings.get(name, default)
        return value[index] if isinstance(value, list | tuple) else value

    def settings_of(k: int, splits: int) -> dict[str, Any]:
        return dict(settings) | {
            "n_clusters": [k],
            "n_splits": splits,
            "n_resamples": pick("n_resamples", 10),
            "resample_size": pick("resample_size", 2),
            "init": pick("init", "k-means++"),
            "fit_fraction": settings.get("fit_fraction", 1.0) if index == 0 else 1.0,
        }

    return settings_of
