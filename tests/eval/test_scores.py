import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from strata.curation.artifact import create_artifact, read_manifest
from strata.curation.errors import DataError
from strata.eval.accuracy import mean_per_class, top1
from strata.eval.scores import Score, read_scores, write_scores


def resampled(labels, correct, statistic, n_draws=4000):
    """The bootstrap as told: draw images with replacement, compute again."""
    rng = np.random.default_rng(7)
    rows = rng.integers(0, len(labels), (n_draws, len(labels)))
    return np.quantile([statistic(labels[r], correct[r]) for r in rows], [0.025, 0.975])


def long_tailed(n=300):
    rng = np.random.default_rng(3)
    labels = rng.choice(6, n, p=[0.5, 0.25, 0.12, 0.08, 0.03, 0.02])
    return labels, rng.random(n) < np.array([0.9, 0.7, 0.5, 0.4, 0.3, 0.2])[labels]


def test_top1_interval_against_simulation():
    labels, correct = long_tailed()
    found = top1(correct)
    assert found.value == correct.mean()
    assert found.n == 300
    expected = resampled(labels, correct, lambda _, c: c.mean())
    np.testing.assert_allclose([found.low, found.high], expected, atol=1.01 / 300)  # values come in steps of 1 / n


def test_top1_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    intervals = [top1(rng.random(500) < 0.7) for _ in range(400)]
    assert 0.92 < np.mean([e.low <= 0.7 <= e.high for e in intervals]) < 0.98


def test_top1_at_the_ends():
    assert (top1(np.ones(9, bool)).low, top1(np.zeros(9, bool)).high) == (1.0, 0.0)


def test_mean_per_class_interval_against_simulation():
    labels, correct = long_tailed()

    def statistic(y, c):
        return np.mean([c[y == k].mean() for k in np.unique(y)])

    found = mean_per_class(labels, correct)
    assert found.value == pytest.approx(statistic(labels, correct))
    assert found.n == 6
    np.testing.assert_allclose([found.low, found.high], resampled(labels, correct, statistic), atol=0.012)
    assert found == mean_per_class(labels, correct)
    assert found != mean_per_class(labels, correct, seed=1)


def test_mean_per_class_leaves_out_absent_classes():
    found = mean_per_class(np.array([0, 0, 0, 5]), np.array([True, True, True, False]))
    assert (found.value, found.n) == (0.5, 2)


def a_score(**changes):
    values = dict(
        protocol="knn", version=1, benchmark="digits", metric="top1", value=0.5, n=4, ci_low=0.1, ci_high=0.9,
        details={"k": 20},
    )  # fmt: skip
    return Score(**values | changes)


COLUMNS = {"row": [0, 1], "id": ["a", "b"], "label": [1, 0], "prediction": [1, 1], "correct": [True, False]}


def test_round_trip(tmp_path):
    scores = [a_score(), a_score(metric="mean_per_class", value=0.25)]
    path = write_scores(
        tmp_path / "s", scores, COLUMNS | {"extra": [1.5, 2.5]}, key="k", inputs={"features": "f"}, config={"x": 1},
        meta={"benchmark": "digits"},
    )  # fmt: skip
    assert read_scores(path) == scores
    assert pq.read_table(path / "predictions.parquet").to_pydict() == COLUMNS | {"extra": [1.5, 2.5]}
    manifest = read_manifest(path, "scores")
    assert (manifest["key"], manifest["inputs"], manifest["benchmark"]) == ("k", {"features": "f"}, "digits")
    assert json.loads((path / "scores.json").read_text())[0]["details"] == {"k": 20}


def test_bad_predictions(tmp_path):
    with pytest.raises(DataError, match="lack the columns id"):
        write_scores(tmp_path / "s", [], {k: v for k, v in COLUMNS.items() if k != "id"})
    with pytest.raises(DataError, match="differ in length"):
        write_scores(tmp_path / "s", [], COLUMNS | {"label": [1]})
    assert not (tmp_path / "s").exists()


def test_a_score_is_finite():
    with pytest.raises(DataError, match="top1 is not finite"):
        a_score(ci_low=float("nan"))


def test_reading_what_is_not_scores(tmp_path):
    with create_artifact(tmp_path / "features", "features"):
        pass
    with pytest.raises(DataError, match="'scores' is needed"):
        read_scores(tmp_path / "features")
    with create_artifact(tmp_path / "s", "scores") as draft:
        (draft.path / "scores.json").write_text('[{"protocol": "knn"}]')
    with pytest.raises(DataError, match=r"scores\.json cannot be read"):
        read_scores(tmp_path / "s")
