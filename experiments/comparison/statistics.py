"""Means, intervals and paired differences over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the half-width of its 95 % t interval (NaN for a single seed)."""

    mean: float
    half_width: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; False where there is no interval."""
        return abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of ``values`` [s] and t_{0.975, s-1} * sd / sqrt(s)."""
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2:
        return Estimate(float(array.mean()), math.nan, n)
    half = stats.t.ppf(0.975, n - 1) * array.std(ddof=1) / math.sqrt(n)
    return Estimate(float(array.mean()), float(half), n)


def paired_difference(ours: dict[int, float], baseline: dict[int, float]) -> Estimate | None:
    """ours - baseline over the seeds that both have; None if they share none.

    Runs under one seed share the network's initialisation, so the seed's own effect cancels.
    """
    shared = sorted(ours.keys() & baseline.keys())
    return estimate([ours[seed] - baseline[seed] for seed in shared]) if shared else None
