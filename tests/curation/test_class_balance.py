"""The measure ``balance``: against loops, and what it refuses."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from strata.curation.balance import tail_classes
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.balance import ClassBalance
from strata.curation.measures.base import Measured

POOLS = st.lists(st.integers(-1, 8), min_size=1, max_size=80)


def measured(classes, rows, n_classes=9):
    classes = None if classes is None else np.array(classes)
    n = 1 if classes is None else len(classes)
    points = np.zeros((0 if rows is None else len(rows), 2))
    rows = None if rows is None else np.array(rows, np.int64)
    return Measured(points, np.arange(n), np.zeros((n, 2)), classes, n_classes, 0, rows)


def slow(classes, rows, tail):
    """Every value by its definition, one class after the other."""
    in_pool = Counter(c for c in classes if c >= 0)
    chosen = Counter(classes[row] for row in rows if classes[row] >= 0)
    total = sum(chosen.values())
    entropy = -sum(k / total * math.log(k / total) for k in chosen.values()) if total else 0.0
    rarest = sorted(in_pool, key=lambda c: (in_pool[c], c))[: max(1, round(tail * len(in_pool)))]
    return {
        "effective_classes": math.exp(entropy) if total else 0.0,
        "normalized_entropy": entropy / math.log(len(in_pool)) if len(in_pool) > 1 else 1.0,
        "coverage": sum(c in chosen for c in in_pool) / len(in_pool),
        "tail_coverage_1": sum(chosen[c] >= 1 for c in rarest) / len(rarest),
        "tail_coverage_5": sum(chosen[c] >= 5 for c in rarest) / len(rarest),
        "tail_share": sum(chosen[c] for c in rarest) / max(total, 1),
        "rows": len(rows),
    }


@settings(deadline=None)
@given(POOLS, st.data(), st.sampled_from([0.1, 1 / 3, 0.5, 1.0]))
def test_values_are_those_of_a_loop(classes, data, tail):
    assume(max(classes) >= 0)
    rows = sorted(data.draw(st.lists(st.integers(0, len(classes) - 1), max_size=60)))  # repeats count
    measure = ClassBalance(tail)
    found = measure(measured(classes, rows))
    assert set(found.values) == set(measure.metrics)
    assert found.values == pytest.approx(slow(classes, rows, tail))
    assert found.columns["items"].sum() == sum(c >= 0 for c in classes)
    assert found.columns["chosen"].sum() == sum(classes[row] >= 0 for row in rows)


def test_by_hand():
    """Classes of 8, 4, 2, 1, 1 and 0 rows; the tail is the two of one row. Chosen: 5, 0, 2, 1 and 0."""
    classes = [0] * 8 + [1] * 4 + [2] * 2 + [3, 4]
    values = ClassBalance(0.4)(measured(classes, [0, 1, 2, 3, 4, 12, 13, 14], n_classes=6)).values
    entropy = -(5 / 8 * math.log(5 / 8) + 1 / 4 * math.log(1 / 4) + 1 / 8 * math.log(1 / 8))
    assert values["effective_classes"] == pytest.approx(math.exp(entropy))
    assert values["normalized_entropy"] == pytest.approx(entropy / math.log(5)), "of the five classes that the pool has"
    assert (values["coverage"], values["tail_coverage_1"], values["tail_coverage_5"]) == (0.6, 0.5, 0)
    assert values["tail_share"] == 1 / 8 and values["rows"] == 8
    five = ClassBalance(0.4)(measured(classes, [14] * 5 + [15] * 4, n_classes=6)).values
    assert (five["tail_coverage_1"], five["tail_coverage_5"], five["tail_share"]) == (1, 0.5, 1)


def test_tail_classes():
    assert tail_classes([0, 0, 1, 2, 2, 3, -1], 4, 0.5).tolist() == [1, 3], "of equally rare ones the lowest id first"
    assert tail_classes([0, 0, 1], 2, 0.01).tolist() == [1], "at least one"


def test_refusals():
    with pytest.raises(DataError, match="labels"):
        ClassBalance()(measured(None, [0]))
    with pytest.raises(DataError, match="labels"):
        ClassBalance()(measured([-1, -1], [0]))
    with pytest.raises(DataError, match="measured=subset"):
        ClassBalance()(measured([0, 1], None))
    for tail in (0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"measure\.tail"):
            ClassBalance(tail)
