import math

import numpy as np
import pytest

from strata.experiments.comparison.statistics import estimate, paired_difference


def test_interval_by_hand():
    """s = 3: t_{.975, 2} = 4.30265, so the half-width of (1, 2, 6) is 4.30265 * sqrt(7) / sqrt(3)."""
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.half_width == pytest.approx(4.302652729 * math.sqrt(7) / math.sqrt(3), rel=1e-8)
    assert not found.excludes_zero


def test_one_seed_has_no_interval_and_claims_nothing():
    found = estimate([5.0])
    assert found.mean == 5.0 and math.isnan(found.half_width) and not found.excludes_zero


def test_interval_covers_the_mean_in_95_percent_of_cases():
    rows = np.random.default_rng(0).normal(1.0, 2.0, (4000, 4))
    hits = [abs(e.mean - 1.0) <= e.half_width for e in (estimate(list(row)) for row in rows)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


def test_paired_difference_uses_shared_seeds_only():
    found = paired_difference({0: 3.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 5: 0.0})
    assert found is not None and found.mean == 2.0 and found.n == 2 and found.half_width == 0.0 and found.excludes_zero
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
