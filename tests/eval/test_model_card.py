"""The model card's section, and the mean over sets."""

import json

import numpy as np
import pytest

from strata.eval.means import mean_over_sets
from strata.eval.model_card import Scored, as_text, card_markdown, model_card
from strata.eval.protocols.knn import KNN
from strata.eval.scores import Score


def a_score(**changes):
    values = {"protocol": "knn", "version": 1, "benchmark": "b", "metric": "top1", "value": 0.5, "n": 100,
              "ci_low": 0.4, "ci_high": 0.6}  # fmt: skip
    return Score(**values | changes)


def test_card_holds_every_score_with_where_it_comes_from(make_features, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 4)).astype(np.float32), np.arange(60) % 3
    features = make_features(train=(x, y), test=(x[:30], y[:30]))
    KNN(k=(3, 5), headline_k=3).run(features, tmp_path / "s", device="cpu", benchmark="toy", key="abc")
    scored = Scored.read(tmp_path / "s")
    card = model_card(
        "mine", [scored], [a_score(protocol="finegrained", metric="mean", benchmark="two sets")], "strata eval x"
    )
    assert len(card["scores"]) == len(scored.scores) + 1
    first = card["scores"][0]
    assert (first["protocol"], first["version"], first["benchmark"], first["key"]) == (
        "knn",
        scored.scores[0].version,
        "toy",
        "abc",
    )
    assert card["protocols"][f"knn-v{first['version']}"]["temperature"] == 0.07
    assert card["data"]["toy"]["test"]["n"] == 30
    assert {"torch", "numpy"} <= set(card["versions"])
    json.dumps(card)
    text = card_markdown(card)
    assert "## Evaluation: mine" in text and "| two sets | finegrained-v1 | mean | 50.0 | 40.0 to 60.0 | 100 |" in text
    assert "Made by `strata eval x`." in text
    assert text.count("\n| toy |") == len(scored.scores)


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("top1", 0.1234, "12.3"),
        ("map_hard", 1.0, "100.0"),
        ("rmse", 0.4171, "0.4171"),
        ("rankme", 55.5555, "55.56"),
        ("mae", 3, "3"),
    ],
)
def test_shares_are_in_percent(metric, value, expected):
    assert as_text(metric, value) == expected


def test_mean_over_sets_by_hand():
    scores = [
        a_score(benchmark="aircraft", metric="mean_per_class", value=0.5, ci_low=0.46, ci_high=0.54),
        a_score(benchmark="cars", value=0.7, ci_low=0.67, ci_high=0.73),
    ]
    found = mean_over_sets("pair", scores)
    assert (found.value, found.n, found.protocol, found.version) == (pytest.approx(0.6), 2, "finegrained", 1)
    half = np.sqrt(0.04**2 + 0.03**2) / 2
    assert found.ci_high - found.value == pytest.approx(half) == pytest.approx(found.value - found.ci_low)
    assert found.details["sets"]["aircraft"] == {"metric": "mean_per_class", "value": 0.5}
    assert found.benchmark == "pair by knn-v1"


def test_mean_over_sets_agrees_with_a_bootstrap_of_both():
    rng = np.random.default_rng(0)
    right = [rng.random(n) < p for n, p in ((400, 0.5), (150, 0.8))]
    scores = []
    for i, r in enumerate(right):
        draws = np.quantile([rng.choice(r, len(r)).mean() for _ in range(2000)], [0.025, 0.975])
        scores.append(a_score(benchmark=f"s{i}", value=float(r.mean()), ci_low=draws[0], ci_high=draws[1]))
    both = [np.mean([rng.choice(r, len(r)).mean() for r in right]) for _ in range(4000)]
    found = mean_over_sets("both", scores)
    np.testing.assert_allclose([found.ci_low, found.ci_high], np.quantile(both, [0.025, 0.975]), atol=0.004)
