import numpy as np
import pyarrow.parquet as pq
import pytest

from strata.curation.errors import ConfigError
from strata.eval.features import Features
from strata.eval.protocols.fewshot import FewShot, k_of_each, over_draws
from strata.eval.protocols.heads import take
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.logreg import LogReg
from strata.eval.stratify import stratified_sample

FIXED = LogReg(strengths=(10.0,))


def clusters(seed, n, n_classes=5, d=8):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((n_classes, d)) * 1.2
    y = np.arange(n) % n_classes
    return (centers[y] + rng.standard_normal((n, d))).astype(np.float32), y


def test_draws():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [9, 4, 30]))
    drawn = [k_of_each(labels, 4, seed) for seed in range(50)]
    assert all(np.bincount(labels[rows]).tolist() == [4, 4, 0, 4] for rows in drawn)
    assert (k_of_each(labels, 4, 7) == drawn[7]).all()
    assert len({tuple(rows) for rows in drawn}) == 50
    assert np.bincount(np.concatenate(drawn), minlength=len(labels)).min() > 0  # every image has its chance


def test_is_the_mean_of_the_classifier_over_draws(make_features, tmp_path):
    path = make_features(train=clusters(0, 400), test=clusters(1, 150))
    few = FewShot(shots=(2,), shares=(0.05,), draws=3, classifier=FIXED, seed=5)
    scores = {s.metric: s for s in few.run(path, tmp_path / "s", device="cpu")}
    assert tuple(scores) == few.metrics() == ("top1_shot2", "top1_share5")
    train, test = Features.open(path, "train"), Features.open(path, "test")
    for metric, draw in {
        "top1_shot2": lambda i: k_of_each(train.labels, 2, 5 + i),
        "top1_share5": lambda i: stratified_sample(train.labels, 20, 5 + i),
    }.items():
        alone = [np.mean(FIXED.fit(take(train, draw(i))).predict(test) == test.labels) for i in range(3)]
        assert scores[metric].details["draws"] == pytest.approx(alone)
        assert scores[metric].value == pytest.approx(np.mean(alone))
        assert 0.3 < scores[metric].value < 0.98
        assert scores[metric].ci_low < scores[metric].value < scores[metric].ci_high
    assert len(pq.read_table(tmp_path / "s" / "predictions.parquet")) == 150


def test_the_interval_knows_of_both_draws_and_images():
    rng = np.random.default_rng(0)
    same = np.tile(rng.random(400) < 0.5, (5, 1))
    width = {}
    for name, right in {"same": same, "differ": same & (np.arange(5) < 3)[:, None]}.items():
        found, draws = over_draws(right)
        assert found.value == pytest.approx(np.mean(draws))
        width[name] = found.high - found.low
    assert width["same"] == pytest.approx(2 * 1.96 * (0.25 / 400) ** 0.5, rel=0.1)  # the binomial one
    assert width["differ"] > 3 * width["same"]


def test_what_cannot_be_drawn(make_features, tmp_path):
    x, y = clusters(0, 43)
    path = make_features(train=(x, y), test=(x, y))
    with pytest.raises(ConfigError, match=r"protocol\.shots: 10 images a class are wanted, and class 3 has 8"):
        FewShot().run(path, tmp_path / "s", device="cpu")
    with pytest.raises(ConfigError, match="20 neighbors, but train has only 5"):
        FewShot(shots=(1,), shares=(), classifier=KNN()).run(path, tmp_path / "s", device="cpu")
    for options in ({"shots": (), "shares": ()}, {"shots": (0,)}, {"shares": (1.5,)}, {"draws": 0}):
        with pytest.raises(ConfigError, match=r"protocol\."):
            FewShot(**options)
    assert not (tmp_path / "s").exists()
