"""Two backbones from stored predictions, and scores again when a protocol's scoring moves."""

import json
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from strata.curation.errors import ConfigError, DataError
from strata.eval.compare import compare, markdown, mcnemar
from strata.eval.protocols.fairness import Fairness
from strata.eval.protocols.health import Health
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.linear import Linear
from strata.eval.rescore import rescore
from strata.eval.scores import read_scores

NEAREST = KNN(k=[1, 3], headline_k=1)


def split(seed, n, noise):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    return (np.eye(4)[y] + noise * rng.standard_normal((n, 4))).astype(np.float32), y


@pytest.fixture
def two(make_features, tmp_path):
    """Scores of a better and a worse network on the same images."""
    paths = {}
    for name, noise in {"a": 0.3, "b": 0.6}.items():
        features = make_features(name=f"f-{name}", train=split(0, 200, noise), test=split(1, 160, noise))
        NEAREST.run(features, tmp_path / name, benchmark="toy", device="cpu")
        paths[name] = tmp_path / name
    return paths


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(8, 1) == pytest.approx(2 * binom.cdf(1, 9, 0.5))
    assert mcnemar(1, 8) == mcnemar(8, 1)


def test_difference_of_two_backbones(two):
    found = {d.metric: d for d in compare(two["a"], two["b"])}
    scores = {name: {s.metric: s.value for s in read_scores(path)} for name, path in two.items()}
    assert set(found) == set(scores["a"])
    for metric, d in found.items():
        assert (d.a, d.b) == (scores["a"][metric], scores["b"][metric])
        assert d.difference == pytest.approx(d.a - d.b)
        assert d.ci_low <= d.difference <= d.ci_high
    right = [np.array(pq.read_table(two[name] / "predictions.parquet")["correct"]) for name in "ab"]
    assert found["top1"].only_a == int((right[0] & ~right[1]).sum())
    assert found["top1"].only_b == int((right[1] & ~right[0]).sum())
    assert found["top1"].p_value == pytest.approx(mcnemar(found["top1"].only_a, found["top1"].only_b))
    assert found["top1"].differs
    assert found["top1"].p_value < 0.05
    assert found["mean_per_class"].p_value is None
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 160, (3000, 160))
    low, high = np.quantile((right[0][rows].mean(1) - right[1][rows].mean(1)), [0.025, 0.975])
    np.testing.assert_allclose([found["top1"].ci_low, found["top1"].ci_high], [low, high], atol=0.01)
    assert compare(two["a"], two["b"]) == compare(two["a"], two["b"])
    assert "| knn-v1 | toy | top1 |" in markdown(list(found.values()), "A", "B")


def test_one_backbone_does_not_differ_from_itself(two):
    for d in compare(two["a"], two["a"]):
        assert (d.difference, d.ci_low, d.ci_high) == (0, 0, 0)
        assert not d.differs
        assert d.p_value in (1.0, None)


def test_what_cannot_be_compared(two, make_features, tmp_path):
    train, test = split(0, 200, 0.3), split(1, 160, 0.3)
    for name, options, message in (
        ("benchmark", {"benchmark": "other"}, "not of one benchmark: toy and other"),
        ("images", {"benchmark": "toy"}, "do not have the same test images"),
    ):
        given = test if name == "benchmark" else (test[0][:100], test[1][:100])
        NEAREST.run(make_features(name=name, train=train, test=given), tmp_path / f"s-{name}", device="cpu", **options)
        with pytest.raises(DataError, match=message):
            compare(two["a"], tmp_path / f"s-{name}")
    linear = Linear(learning_rates=(0.1,), n_blocks=(1,), avgpool=(False,), steps=2)
    linear.run(make_features(name="l", train=train, test=test), tmp_path / "s-l", benchmark="toy", device="cpu")
    with pytest.raises(DataError, match="not of one protocol: knn-v1 and linear-v1"):
        compare(two["a"], tmp_path / "s-l")
    old = json.loads((two["b"] / "scores.json").read_text())
    (two["b"] / "scores.json").write_text(json.dumps([{k: v for k, v in s.items() if k != "statistic"} for s in old]))
    with pytest.raises(DataError, match="no metric of"):
        compare(two["b"], two["b"])


class Halved(KNN):
    """KNN whose next version scores otherwise: half of everything."""

    version: ClassVar[int] = 2

    def score(self, predictions, about):
        return [s for s in super().score(predictions, about) if s.metric == "top1"]


class Elsewhere(KNN):
    version: ClassVar[int] = 2
    predictions_version: ClassVar[int] = 2


def test_rescoring_gives_the_same_numbers_without_features(two, make_features, tmp_path):
    assert rescore(two["a"], tmp_path / "again", NEAREST) == read_scores(two["a"])
    again, was = tmp_path / "again", two["a"]
    for file in ("scores.json", "predictions.parquet", "per_class.parquet"):
        assert (again / file).read_bytes() == (was / file).read_bytes()
    columns = {"columns": {"group.income": ["low", "high"] * 80}}
    features = make_features(name="g", train=split(0, 200, 0.6), test=split(1, 160, 0.6), extra={"test": columns})
    fair = Fairness(NEAREST)
    fair.run(features, tmp_path / "fair", device="cpu")
    assert rescore(tmp_path / "fair", tmp_path / "fair2", fair) == read_scores(tmp_path / "fair")


def test_rescoring_by_a_newer_version(two, tmp_path):
    scores = rescore(two["a"], tmp_path / "new", Halved(k=[1, 3], headline_k=1))
    assert [(s.metric, s.version) for s in scores] == [("top1", 2)]
    assert scores[0].value == read_scores(two["a"])[0].value
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["protocol"]["version"] == 2
    assert manifest["rescored_from"]["version"] == 1
    compare(tmp_path / "new", tmp_path / "new")


def test_what_cannot_be_rescored(two, make_features, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="is of the protocol knn, not linear"):
        rescore(two["a"], out, Linear())
    with pytest.raises(DataError, match="other options of knn"):
        rescore(two["a"], out, KNN())
    with pytest.raises(DataError, match="v1 predicted otherwise than v2"):
        rescore(two["a"], out, Elsewhere(k=[1, 3], headline_k=1))
    health = make_features(name="h", train=split(0, 50, 0.3), test=split(0, 50, 0.3))
    Health().run(health, tmp_path / "health", device="cpu")
    with pytest.raises(DataError, match="does not hold what scoring needs"):
        rescore(tmp_path / "health", out, Health())
    assert not out.exists()
    with pytest.raises(ConfigError):
        KNN(k=[0])
