"""Health: each measure of features and targets whose value is known, and when the alarm goes off."""

import math

import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError
from strata.ssl.image.alarm import AlarmConfig, CollapseAlarm, CollapsedRun
from strata.ssl.image.health import (
    agreement,
    effective_rank,
    feature_health,
    mean_cosine,
    prototype_health,
    prototype_perplexity,
    prototype_share,
    target_entropy,
    target_information,
)


def test_effective_rank_and_cosine_of_known_features():
    assert effective_rank(torch.eye(5)) == pytest.approx(5.0, rel=1e-5)
    assert effective_rank(torch.ones(6, 4)) == pytest.approx(1.0, abs=1e-3)
    assert mean_cosine(torch.eye(5)) == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(torch.ones(6, 4)) == pytest.approx(1.0, rel=1e-5)
    assert mean_cosine(torch.tensor([[1.0, 0], [2.0, 0], [-1.0, 0]])) == pytest.approx(-1 / 3, rel=1e-5)
    assert mean_cosine(torch.ones(1, 4)) == 0.0


def test_effective_rank_is_rankme_in_float64():
    x = np.random.default_rng(0).normal(size=(40, 12)) * np.geomspace(1, 0.01, 12)
    values = np.linalg.svd(x, compute_uv=False)
    p = values / values.sum()
    assert effective_rank(torch.tensor(x)) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-5)


def test_use_of_prototypes():
    logits = torch.eye(4)[[0, 0, 1, 1]]  # two of four used, equally
    assert prototype_share(logits) == 0.5 and prototype_perplexity(logits) == pytest.approx(0.5)
    unequal = torch.eye(4)[[0, 0, 0, 1]]
    assert prototype_share(unequal) == 0.5
    assert prototype_perplexity(unequal) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))) / 4
    )
    few = torch.eye(100)[:3]  # three rows cannot use more than three
    assert prototype_share(few) == 1.0 and prototype_perplexity(few) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("targets", "entropy", "information"),
    [
        (torch.eye(4), 0.0, 1.0),  # every image its own prototype
        (torch.eye(4)[[2, 2, 2, 2]], 0.0, 0.0),  # collapsed to one
        (torch.full((4, 4), 0.25), 1.0, 0.0),  # collapsed to uniform
        (torch.eye(4)[[0, 0, 1, 1]], 0.0, 0.5),  # two groups of four: one bit of two
    ],
)
def test_targets(targets, entropy, information):
    assert target_entropy(targets) == pytest.approx(entropy, abs=1e-6)
    assert target_information(targets) == pytest.approx(information, abs=1e-6)


def test_information_is_the_mutual_information_in_float64():
    p = np.random.default_rng(1).dirichlet(np.full(7, 0.3), size=20)
    joint = p / 20
    expected = (joint * np.log(joint / (joint.sum(1, keepdims=True) * joint.sum(0)))).sum() / math.log(7)
    assert target_information(torch.tensor(p)) == pytest.approx(expected, rel=1e-5)
    assert target_information(torch.ones(1, 7) / 7) == 0.0  # of one image nothing can be told apart


def test_agreement():
    a = torch.tensor([[1.0, 2, 3], [3, 2, 1], [0, 1, 0]])
    assert agreement(a, a) == 1.0
    assert agreement(a, a[[0, 0, 2]]) == pytest.approx(2 / 3)


def test_what_a_method_reports():
    assert set(feature_health(torch.eye(3))) == {"effective_rank", "mean_cosine"}
    views = torch.eye(3).repeat(2, 1)
    values = prototype_health(views, views, torch.eye(3))
    expected = {"prototype_share": 1, "prototype_perplexity": 1, "teacher_entropy": 0}
    assert values == pytest.approx(expected | {"target_information": 1, "agreement": 1}, abs=1e-6)


# ---- the alarm

GOOD = {"effective_rank": 9.0, "mean_cosine": 0.1, "target_information": 0.4}


def alarm(warmup=0, **limits):
    return CollapseAlarm(AlarmConfig(**limits), warmup)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"effective_rank": 1.1}, "effective_rank 1.1 is below ssl.alarm.min_rank=1.5"),
        ({"mean_cosine": 0.999}, "mean_cosine 0.999 is above ssl.alarm.max_cosine=0.99"),
        ({"target_information": 0.001}, "target_information 0.001 is below ssl.alarm.min_information=0.01"),
        ({"effective_rank": math.nan}, "effective_rank nan"),
    ],
)
def test_alarm_wants_three_bad_checks_in_a_row_and_says_why(bad, words):
    watch = alarm()
    for values in (GOOD | bad, GOOD | bad, GOOD, GOOD | bad, GOOD | bad):
        watch.check(1, values)
    with pytest.raises(CollapsedRun) as caught:
        watch.check(7, GOOD | bad)
    message = str(caught.value)
    assert "\n" not in message and "collapsed by step 7" in message and words in message and "ssl.base_lr" in message


def test_alarm_is_silent_in_the_warm_up_when_off_and_on_what_is_not_reported():
    bad = {"effective_rank": 1.0}
    alarm(warmup=10, patience=1).check(10, bad)
    alarm(enabled=False, patience=1).check(10, bad)
    alarm(patience=1).check(10, {})
    alarm(patience=1, min_rank=0.0).check(10, bad)
    with pytest.raises(CollapsedRun):
        alarm(warmup=10, patience=1, after=3).check(4, bad)


def test_alarm_goes_on_counting_after_a_resume():
    first, second = alarm(), alarm()
    first.check(1, {"effective_rank": 1.0})
    first.check(2, {"effective_rank": 1.0})
    second.load_state_dict(first.state_dict())
    with pytest.raises(CollapsedRun):
        second.check(3, {"effective_rank": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_rank", -1.0), ("max_cosine", 2.0), ("min_information", math.nan), ("patience", 0), ("after", -2)],
)
def test_bad_limits_name_their_field(name, value):
    with pytest.raises(ConfigError) as caught:
        AlarmConfig(**{name: value})
    assert caught.value.field == f"ssl.alarm.{name}"
