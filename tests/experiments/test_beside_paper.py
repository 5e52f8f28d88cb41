"""Ours beside the paper's: directions, orders, Holm, and claims against hand-worked cases."""

import math

import numpy as np
import pytest
from scipy import stats

from strata.curation.errors import ConfigError
from strata.experiments.comparison import printed
from strata.experiments.comparison.beside_paper import beside_paper, holm
from strata.experiments.comparison.claims import claims_of, claims_table, judge
from strata.experiments.comparison.values import Value

CSV = """arm,metric,value,unit,source
A,kl,5,nats,PDF
B,kl,1,nats,PDF
C,kl,8,nats,PDF
D,kl,7,nats,PDF
A,acc,60.0,%,PDF
B,acc,50.0,%,PDF
"""


@pytest.fixture(autouse=True)
def paper(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text(CSV)
    monkeypatch.setattr(printed, "FOLDER", tmp_path)
    caches = (printed.printed_numbers, printed.printed_columns)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def values_of(ours, metric="kl"):
    return [Value(arm, s, "m", metric, float(x)) for arm, xs in ours.items() for s, x in enumerate(xs)]


def config_of(ours, **more):
    config = {
        "name": "t", "ssl": {}, "arms": dict.fromkeys(ours), "table": {"controls": ["a"]},
        "columns": {"kl": ["m", "kl"]}, "printed": {"file": "t", "arms": {arm: arm.upper() for arm in ours}},
    }  # fmt: skip
    return config | more


OURS = {"a": [5, 6, 7], "b": [1, 2.1, 3], "c": [4, 5.1, 6], "d": [4, 9, 6]}


def test_direction_and_order():
    """Printed: b below a, c above a. Ours: b surely below, c surely below, d not decided."""
    (table,) = beside_paper(values_of(OURS), config_of(OURS))
    assert [row[-1] for row in table.rows] == ["", "yes", "no", "not decided (yes by the means)"]
    assert [row[4] for row in table.rows[:2]] == ["+1.0000", "+1.0333"], "ours - paper"
    assert (
        "4 of 6 pairs" in table.notes[2] and "a 6, c 5.033" in table.notes[2] and "c 5.033, d 6.333" in table.notes[2]
    )
    p = stats.ttest_rel(OURS["b"], OURS["a"]).pvalue
    assert float(table.rows[1][7]) == pytest.approx(p, abs=6e-4)


def test_percent_is_the_papers_unit():
    ours = {"a": [0.61, 0.63], "b": [0.5, 0.51]}
    (table,) = beside_paper(values_of(ours, "acc"), config_of(ours, columns={"acc": ["m", "acc"]}))
    assert table.rows[0][2:5] == ["62.0 ± 12.7", "60", "+2.0"]
    assert table.rows[1][9] == "-10"


def test_holm_by_hand():
    found = holm([0.01, math.nan, 0.04, 0.03])
    assert np.allclose(found, [0.03, np.nan, 0.06, 0.06], equal_nan=True)


def verdict(ours, **claim):
    config = config_of(ours, claims={"x": {"says": "it", **claim}})
    (found,) = judge(values_of(ours), config)
    return found


def test_a_claim_of_two_arms_is_their_paired_difference():
    found = verdict(OURS, order=["a", "b"])
    differences = np.subtract(OURS["a"], OURS["b"])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    assert found.found.mean == pytest.approx(differences.mean()) and found.found.half_width == pytest.approx(half)
    assert (found.verdict, found.printed, found.decide) == ("agrees", 4.0, "")
    assert verdict(OURS, order=["b", "a"]).verdict == "disagrees"


def test_a_claim_of_an_order_is_a_least_squares_slope():
    found = verdict(OURS, order=["d", "c", "b"])
    slopes = [np.polyfit([2, 1, 0], [OURS[arm][seed] for arm in "dcb"], 1)[0] for seed in range(3)]
    assert found.found.mean == pytest.approx(np.mean(slopes))
    assert found.printed == pytest.approx(np.polyfit([2, 1, 0], [7, 8, 1], 1)[0])


def test_a_claim_of_one_arm_is_what_it_has_above_a_number():
    found = verdict(OURS, order=["b"], above=0.5)
    half = stats.t.ppf(0.975, 2) * np.std(OURS["b"], ddof=1) / math.sqrt(3)
    assert found.found.mean == pytest.approx(np.mean(OURS["b"]) - 0.5) and found.found.half_width == pytest.approx(half)
    assert found.printed == 0.5 and found.verdict == "undecided"
    assert verdict(OURS, order=["a"], above=0).verdict == "agrees"
    assert verdict(OURS, order=["a"], above=20).verdict == "disagrees"
    config = config_of(OURS, columns={"kl": ["m", "kl", "lower"]}, claims={"x": {"order": ["a"], "above": 20}})
    assert judge(values_of(OURS), config)[0].verdict == "agrees", "lower is better than 20"
    table = claims_table("t", judge(values_of(OURS), config), ["claims.other is left out"])
    assert table.rows[0][1] == "a > 20" and "claims.other is left out" in table.markdown()


def test_lower_is_better_turns_the_sign():
    config = config_of(OURS, columns={"kl": ["m", "kl", "lower"]}, claims={"x": {"says": "it", "order": ["b", "a"]}})
    (found,) = judge(values_of(OURS), config)
    assert found.verdict == "agrees" and found.printed == 4.0


def test_undecided_says_how_many_seeds_would_decide():
    found = verdict(OURS, order=["d", "a"])  # differences -1, 3, -1
    assert found.verdict == "undecided"
    assert stats.t.ppf(0.975, 49) * np.std([-1, 3, -1], ddof=1) / math.sqrt(50) > 1 / 3, "so not even 50 seeds"
    assert found.decide.startswith("more than 50 seeds")
    near = verdict({"a": [0, 0, 0], "b": [1, 2, 0.1]}, order=["b", "a"])
    n = int(near.decide.split()[0])
    spread = np.std([1, 2, 0.1], ddof=1)
    width = [stats.t.ppf(0.975, k - 1) * spread / math.sqrt(k) for k in (n - 1, n)]
    assert width[0] >= np.mean([1, 2, 0.1]) > width[1]


def test_about_equal_needs_the_whole_interval_inside_the_margin():
    close = {"a": [5.0, 6.0, 7.0], "b": [5.1, 6.0, 6.9]}
    assert verdict(close, same=["a", "b"], margin=1.0).verdict == "agrees"
    assert verdict(close, same=["a", "b"], margin=0.1).verdict == "undecided"
    assert verdict(OURS, same=["a", "b"], margin=1.0).verdict == "disagrees"


def test_one_seed_or_none_decides_nothing():
    assert verdict({"a": [2], "b": [1]}, order=["a", "b"]).verdict == "undecided"
    found = verdict({"a": [2, 3], "b": []}, order=["a", "b"])
    assert found.verdict == "undecided" and found.found is None and found.decide.startswith("run")


@pytest.mark.parametrize(
    "claim",
    [{"order": ["a"]}, {"same": ["a", "b"]}, {"order": ["a", "b"], "margin": 1}, {"order": ["a", "b"], "columns": ["x"]},
     {"same": ["a", "b", "c"], "margin": 1}, {"sayz": "it"}, {"order": ["a", "b"], "above": 0},
     {"order": ["a"], "above": "b"}, {"order": ["a"], "above": 0, "margin": 1},
     {"order": ["a", "a"]}, {"order": "ab"}, {"order": [["a"], "b"]}, {"order": ["a", "b"], "columns": "kl"}, {},
     {"order": ["a", "b"], "says": 3}, {"same": ["a", "b"], "margin": "x"}, {"same": ["a", "b"], "margin": -1},
     {"order": ["a", "b"], "same": ["a", "b"], "margin": 1}, {"order": ["a"], "above": math.nan}],
)  # fmt: skip
def test_bad_claims_are_refused(claim):
    with pytest.raises(ConfigError, match="^claims.x"):
        claims_of(config_of(OURS, claims={"x": claim}))
