"""The vectorized bootstrap against one draw at a time."""

import numpy as np
import pytest

from strata.curation.errors import DataError
from strata.eval.accuracy import mean_per_class, top1
from strata.eval.bootstrap import (
    bootstrap,
    by_segment,
    draw_weights,
    mean_of,
    paired_bootstrap,
    ratio_of_sums,
    relative_gap,
    root_of_ratio,
    statistic_of,
)


def plain(n, statistic, n_draws=2000, seed=3):
    rng = np.random.default_rng(seed)
    return np.quantile([statistic(rng.integers(0, n, n)) for _ in range(n_draws)], [0.025, 0.975])


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random(200) < 0.7, rng.integers(0, 4, 200), rng.random((200, 3)), rng.random((200, 3)) + 1


def test_values_and_intervals(data):
    right, of, a, b = data
    cases = {
        "mean": (mean_of(right), lambda r: right[r].mean()),
        "mean_by": (by_segment(right, of), lambda r: np.mean([right[r][of[r] == c].mean() for c in range(4)])),
        "gap": (
            by_segment(right, of, relative_gap),
            lambda r: (lambda m: (max(m) - min(m)) / max(m))([right[r][of[r] == c].mean() for c in range(4)]),
        ),
        "ratio": (ratio_of_sums(a, b), lambda r: (a[r].sum(0) / b[r].sum(0)).mean()),
        "root": (ratio_of_sums(a, b, root_of_ratio), lambda r: np.sqrt(a[r].sum() / b[r].sum())),
    }
    for name, (statistic, by_hand) in cases.items():
        found = bootstrap(statistic)
        assert found.value == pytest.approx(by_hand(np.arange(200))), name
        low, high = plain(200, by_hand)
        assert abs(found.low - low) + abs(found.high - high) < 0.15 * (high - low), name
        assert found == bootstrap(statistic)
        if name == "root":  # continuous: quantiles of other draws differ
            assert found != bootstrap(statistic, seed=1)


def test_agrees_with_the_closed_forms(data):
    right, of, *_ = data
    for ours, theirs in (
        (bootstrap(mean_of(right)), top1(right)),
        (bootstrap(by_segment(right, of)), mean_per_class(of, right)),
    ):
        assert ours.value == pytest.approx(theirs.value)
        assert ours.n == theirs.n
        np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=0.012)


def test_weights_are_whole_draws():
    weights = np.concatenate(list(draw_weights(7, 0, 500)))
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert abs(weights.mean() - 1) < 1e-12
    assert weights.var() == pytest.approx(6 / 7, rel=0.1)  # Binomial(7, 1/7)


def test_a_segment_that_a_draw_misses_is_left_out():
    statistic = by_segment([1.0, 0.0], np.array([0, 1]))
    assert statistic.of(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])).tolist() == [1.0, 0.0, 0.5]
    gap = by_segment([1.0, 0.0], np.array([0, 1]), relative_gap)
    assert gap.of(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])).tolist() == [0.0, 0.0, 1.0]


def test_pairs_are_narrower_than_strangers():
    """B is right where A is, but for 5 of 500: their difference is known far better than either."""
    rng = np.random.default_rng(0)
    a = rng.random(500) < 0.6
    b = a.copy()
    b[np.flatnonzero(a)[:5]] = False
    found = paired_bootstrap(mean_of(a), mean_of(b))
    assert found.value == pytest.approx(0.01)
    assert 0 < found.low < 0.01 < found.high < 0.025
    single = bootstrap(mean_of(a))
    assert found.high - found.low < 0.3 * (single.high - single.low)
    with pytest.raises(DataError, match="500 and 3 examples"):
        paired_bootstrap(mean_of(a), mean_of(a[:3]))


def test_recipes():
    columns = {
        "row": np.arange(4), "label": np.array([0, 0, 1, 1]), "correct": np.array([True, True, False, True]),
        "part": np.array(["a", "a", "b", "b"]), "inter": [[1, 0], [2, 1], [0, 0], [1, 1]], "union": [[2, 1]] * 4,
    }  # fmt: skip
    for recipe, expected in (
        ({"kind": "mean", "of": "correct"}, 0.75),
        ({"kind": "mean_by", "of": "correct", "by": "label"}, 0.75),
        ({"kind": "mean", "of": "correct", "where": "part", "is": "b"}, 0.5),
        ({"kind": "gap", "of": "correct", "by": "part"}, 0.5),
        ({"kind": "ratio", "of": "inter", "over": "union"}, (4 / 8 + 2 / 4) / 2),
        ({"kind": "root_ratio", "of": "inter", "over": "union"}, (6 / 12) ** 0.5),
    ):
        assert statistic_of(columns, recipe).value == pytest.approx(expected)
    with pytest.raises(DataError, match="no column 'gone'"):
        statistic_of(columns, {"kind": "mean", "of": "gone"})
    with pytest.raises(DataError, match="'median', which this version does not know"):
        statistic_of(columns, {"kind": "median", "of": "correct"})
