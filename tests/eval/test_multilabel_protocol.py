"""VOC2007's metric by hand, and the probe against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from strata.curation.artifact import create_artifact
from strata.curation.errors import ConfigError, DataError
from strata.eval.extract import _write_items
from strata.eval.protocols.multilabel import Multilabel, average_precision_11, class_precisions


def test_11_points_by_hand():
    # ranking: right, wrong, right, wrong -> precision 1 up to recall 1/2, then 2/3
    scores, right = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert average_precision_11(scores, right) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision_11(-scores, right) == pytest.approx((6 * 1 / 2 + 5 * 1 / 2) / 11)
    assert np.isnan(average_precision_11(scores, np.zeros(4, bool)))


def test_difficult_images_are_left_out():
    scores = np.array([[3.0], [2.0], [1.0]])
    right = np.array([[False], [True], [False]])
    assert class_precisions(scores, right, np.ones((3, 1), bool)) == pytest.approx([0.5])
    assert class_precisions(scores, right, np.array([[False], [True], [True]])) == pytest.approx([1.0])


@pytest.fixture
def voc_features(tmp_path, array_pool):
    def make(name="f", flip=False, drop=None):
        rng = np.random.default_rng(0)
        centers = rng.standard_normal((3, 6)) * 1.5
        splits = {}
        with create_artifact(tmp_path / name, "features") as draft:
            for split, n in (("train", 160), ("test", 90)):
                flags = rng.random((n, 3)) < 0.4
                x = (flags @ centers + rng.standard_normal((n, 6))).astype(np.float32)
                if flip and split == "test":
                    flags = ~flags
                folder = draft.path / split
                folder.mkdir()
                np.save(folder / "cls.npy", x[:, None])
                np.save(folder / "avg.npy", x[:, None])
                pool = array_pool([0] * n, ["a", "b", "c"], name=split)
                pool.extra = {
                    "positive": [np.flatnonzero(f).tolist() for f in flags],
                    "difficult": [[] if f.any() else [0] for f in flags],
                }
                if drop:
                    del pool.extra[drop]
                _write_items(folder, pool)
                splits[split] = {"n": n, "pool": {"name": split}}
            draft.meta.update(splits=splits, label_names=["a", "b", "c"], backbone={"name": "none"})
        return tmp_path / name, (x, flags)

    return make


def test_agrees_with_scikit_learn(voc_features, tmp_path):
    from strata.eval.features import Features

    path, (x, flags) = voc_features()
    (score,) = Multilabel(strengths=(1.0,)).run(path, tmp_path / "s", device="cpu", benchmark="voc")
    train = Features.open(path, "train")
    fit = np.asarray(train.cls[:, 0], np.float64)
    mean, scale = fit.mean(axis=0), fit.std(axis=0) + 1e-6
    y = np.zeros((len(train), 3), bool)
    for row, classes in enumerate(train.columns["positive"]):
        y[row, classes] = True
    expected = []
    for c in range(3):
        counts = np.array([c not in d for d in train.columns["difficult"]])
        model = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(((fit - mean) / scale)[counts], y[counts, c])
        valid = np.array([c != 0 or bool(f.any()) for f in flags])
        decision = model.decision_function((x - mean) / scale)
        expected.append(average_precision_11(decision[valid], flags[valid, c]))
    assert score.value == pytest.approx(np.mean(expected), abs=0.003)
    assert score.ci_low < score.value < score.ci_high
    assert (score.metric, score.protocol, score.version) == ("map11", "multilabel", 1)


def test_the_test_split_does_not_choose(voc_features, tmp_path):
    chosen = []
    for name, flip in (("true", False), ("flipped", True)):
        path, _ = voc_features(name, flip)
        (score,) = Multilabel(strengths=(0.01, 1.0)).run(path, tmp_path / f"s{name}", device="cpu", benchmark="voc")
        chosen.append((score.details["C"], score.details["trials"]))
    assert chosen[0] == chosen[1]


def test_refusals(voc_features, tmp_path):
    path, _ = voc_features(drop="difficult")
    with pytest.raises(DataError, match="no column 'difficult'"):
        Multilabel().run(path, tmp_path / "s", device="cpu", benchmark="voc")
    with pytest.raises(ConfigError, match=r"protocol\.strengths"):
        Multilabel(strengths=())
