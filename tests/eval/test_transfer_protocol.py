"""Hand cases: class subsets (ImageNet-A), several accepted classes (ReaL), classes under other ids, a head reused."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from strata.curation.errors import DataError
from strata.eval.features import Features
from strata.eval.protocols.base import is_correct
from strata.eval.protocols.classmap import in_classes_of
from strata.eval.protocols.heads import Head, among
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.linear import Linear
from strata.eval.protocols.transfer import Transfer

SMALL = Linear(learning_rates=(0.1, 1.0), n_blocks=(1,), avgpool=(False,), steps=40, batch_size=16)


class Fixed(Head):
    """A head whose logits are the features."""

    details = {}

    def logits(self, features, rows):
        return torch.from_numpy(np.asarray(features.cls[rows, -1]))


LOGITS = np.array([[0.9, 0.5, 0.1, 0.4], [0.2, 0.9, 0.8, 0.1], [0.1, 0.2, 0.3, 0.9]], np.float32)


def test_subset_of_classes_by_hand(make_features):
    """Of 4 classes the test set has 1 and 2: the argmax is among these, whatever the others' logits."""
    path = make_features(
        train=(LOGITS, [0, 1, 2]), test=(LOGITS, [1, 2, 2]), n_classes=4, extra={"test": {"candidates": [1, 2]}}
    )
    test = Features.open(path, "test")
    predicted = Fixed().predict(test)
    assert predicted.tolist() == [1, 1, 2]  # without the subset: 0, 1, 3
    assert is_correct(test, predicted).tolist() == [True, False, True]
    assert Fixed().predict(Features.open(path, "train")).tolist() == [0, 1, 3]
    assert among(torch.zeros(1, 3), None).tolist() == [[0, 0, 0]]


def test_real_labels_by_hand(make_features):
    """ReaL: right if the prediction is any of the image's accepted classes."""
    columns = {"columns": {"accepted": [[0, 3], [2], [3, 1]]}}
    path = make_features(train=(LOGITS, [0, 1, 2]), test=(LOGITS, [3, 2, 1]), n_classes=4, extra={"test": columns})
    test = Features.open(path, "test")
    predicted = Fixed().predict(test)
    assert predicted.tolist() == [0, 1, 3]
    assert is_correct(test, predicted).tolist() == [True, False, True]
    assert (predicted == test.labels).tolist() == [False, False, False]


def test_classes_are_matched_by_name(make_features):
    names = {"label_names": ["class-3", "class-1"]}
    columns = {"columns": {"accepted": [[0], [1, 0], [1]]}}
    path = make_features(
        train=(LOGITS, [0, 1, 2]), test=(LOGITS, [0, 1, 1]), n_classes=4, extra={"test": names | columns}
    )
    train, test = Features.open(path, "train"), Features.open(path, "test")
    mapped = in_classes_of(train, test, "test")
    assert mapped.labels.tolist() == [3, 1, 1]
    assert mapped.candidates.tolist() == [1, 3]
    assert mapped.columns["accepted"] == [[3], [1, 3], [1]]
    assert mapped.label_names == train.label_names
    assert Fixed().predict(mapped).tolist() == [1, 1, 3]
    assert in_classes_of(train, train, "train") is train


def test_class_map_that_does_not_fit(make_features, tmp_path):
    unknown = make_features(
        name="unknown", train=(LOGITS, [0, 1, 2]), test=(LOGITS, [0, 1, 2]), shift=(LOGITS, [0, 1, 1]), n_classes=3,
        extra={"shift": {"label_names": ["class-0", "zebra"]}},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"features of shift: 1 of its 2 classes are none of train's, e\.g\. 'zebra'"):
        Transfer(KNN(k=[1], headline_k=1)).run(unknown, tmp_path / "s", device="cpu")
    twice = make_features(
        name="twice", train=(LOGITS, [0, 1, 2]), test=(LOGITS, [0, 0, 0]), n_classes=3,
        extra={"train": {"label_names": ["a", "b", "a"]}, "test": {"label_names": ["a"]}},
    )  # fmt: skip
    with pytest.raises(DataError, match="several classes 'a'"):
        in_classes_of(Features.open(twice, "train"), Features.open(twice, "test"), "test")
    outside = make_features(
        name="outside",
        train=(LOGITS, [0, 1, 2]),
        test=(LOGITS, [0, 1, 2]),
        n_classes=3,
        extra={"test": {"candidates": [0, 7]}},
    )
    with pytest.raises(DataError, match="candidate 7"):
        KNN(k=[1], headline_k=1).run(outside, tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()


def shifted(seed, n, offset=0.0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(9).standard_normal((4, 6)) * 2
    y = np.arange(n) % 4
    return (centers[y] + offset + rng.standard_normal((n, 6))).astype(np.float32), y


@pytest.mark.parametrize("classifier", [SMALL, KNN(k=[3], headline_k=3)])
def test_one_head_for_all_test_sets(make_features, tmp_path, classifier):
    sets = {"train": shifted(0, 200), "test": shifted(1, 80), "near": shifted(2, 60, 0.3), "far": shifted(3, 60, 3.0)}
    path = make_features(**sets, extra={"near": {"candidates": [0, 1]}})
    x, y = sets["near"]
    found = Transfer(classifier).run(path, tmp_path / "s", device="cpu")
    prefix = "" if classifier is SMALL else "knn_"  # so that both can stand in one table
    assert all(s.metric.startswith(prefix) for s in found)
    scores = {s.metric.removeprefix(prefix): s for s in found}
    assert list(scores) == [m + s for s in ("", "_far", "_near") for m in ("top1", "mean_per_class")]
    alone = classifier.run(path, tmp_path / "alone", device="cpu")
    assert scores["top1"].value == alone[0].value  # the head of the classifier itself
    table = pq.read_table(tmp_path / "s" / "predictions.parquet").to_pydict()
    assert [table["split"].count(split) for split in ("test", "near", "far")] == [80, 60, 60]
    near = [p for p, s in zip(table["prediction"], table["split"], strict=True) if s == "near"]
    assert set(near) <= {0, 1}
    assert scores["top1_near"].value == pytest.approx(np.mean(np.array(near) == y))
    assert scores["top1_near"].n == 60
    assert scores["top1_far"].value < scores["top1"].value
    classes = pq.read_table(tmp_path / "s" / "per_class.parquet").to_pydict()
    assert [classes["split"].count(split) for split in ("test", "near", "far")] == [4, 4, 4]
