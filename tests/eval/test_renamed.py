"""A test set under the classes of another: one of several may be right, and nothing else can be predicted."""

from pathlib import Path

import hydra
import numpy as np
import pytest
import yaml

from strata.curation.errors import ConfigError
from strata.curation.paths import data_root
from strata.curation.pools.parquet import ParquetPool
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.transfer import Transfer
from strata.eval.renamed import RenamedPool

TRAIN = ["forest", "pond", "river", "desert"]
MAP = {"wet": ["river", "pond"], "wood": ["forest"]}


def test_labels_accepted_classes_and_candidates(array_pool):
    train = array_pool([0, 1, 2, 3], TRAIN)
    pool = array_pool([1, 0, 1, 1, 0], ["wood", "wet"], name="theirs")
    found = RenamedPool(pool, train, MAP)
    assert found.label_names == TRAIN and found.labels.tolist() == [1, 0, 1, 1, 0]
    assert found.extra["accepted"] == [[1, 2], [0], [1, 2], [1, 2], [0]] and found.candidates == [0, 1, 2]
    assert len(found) == 5 and found.ids == pool.ids and found[2].tobytes() == pool[2].tobytes()
    narrower = RenamedPool(pool, train, {**MAP, "wet": ["pond"]})
    assert found.fingerprint != narrower.fingerprint and narrower.extra["accepted"][0] == [1]


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ({"wet": ["river"]}, "says nothing of 'wood'"),
        ({**MAP, "ice": ["river"]}, "'ice' is no class of 'theirs'"),
        ({**MAP, "wood": ["jungle"]}, "'wood' stands for jungle, no class of"),
        ({**MAP, "wood": []}, "'wood' stands for nothing"),
    ],
)
def test_maps_that_do_not_fit_are_named(array_pool, accepted, said):
    train, pool = array_pool([0, 1, 2, 3], TRAIN), array_pool([1, 0], ["wood", "wet"], name="theirs")
    with pytest.raises(ConfigError, match=said):
        RenamedPool(pool, train, accepted)
    with pytest.raises(ConfigError, match="has no named classes"):
        RenamedPool(array_pool(None, None), train, MAP)


def test_neighbors_carried_over_by_hand(make_features, tmp_path):
    """Four classes along four axes; of the shifted items one is right by either of two classes, one has a wrong neighbor."""
    axes = np.eye(4, dtype=np.float32)
    shifted = axes[[1, 2, 0, 3]]
    accepted = {"accepted": [[1, 2], [1, 2], [0], [0]]}
    extra = {"far": {"columns": dict(accepted), "candidates": [0, 1, 2]}}
    features = make_features(
        n_classes=4, train=(np.repeat(axes, 3, axis=0), np.repeat(np.arange(4), 3)), test=(axes, np.arange(4)),
        far=(shifted, np.array([1, 1, 0, 0])), extra=extra,
    )  # fmt: skip
    scores = Transfer(classifier=KNN(k=(3,), headline_k=3)).run(features, tmp_path / "s", device="cpu", benchmark="toy")
    found = {score.metric: score.value for score in scores}
    # the last item lies on the axis of class 3, which it cannot be: all others are as far, so the lowest, 0, is taken; right
    assert found == {"knn_top1": 1.0, "knn_mean_per_class": 1.0, "knn_top1_far": 1.0, "knn_mean_per_class_far": 1.0}
    none = {"columns": dict(accepted), "candidates": [0, 1, 2, 3]}
    features = make_features(
        "free", n_classes=4, train=(np.repeat(axes, 3, axis=0), np.repeat(np.arange(4), 3)), test=(axes, np.arange(4)),
        far=(shifted, np.array([1, 1, 0, 0])), extra={"far": none},
    )  # fmt: skip
    scores = Transfer(classifier=KNN(k=(3,), headline_k=3)).run(features, tmp_path / "t", device="cpu", benchmark="toy")
    assert {score.metric: score.value for score in scores}["knn_top1_far"] == 0.75, "class 3 may now be predicted"
    assert Transfer(classifier=KNN()).metrics() == ("knn_top1", "knn_mean_per_class")
    assert Transfer().metrics_of(["train", "test", "far"]) == (
        "top1",
        "mean_per_class",
        "top1_far",
        "mean_per_class_far",
    )


@pytest.mark.data
def test_rsscn7_under_the_classes_of_aid():
    root = data_root()
    if root is None or not (root / "satellite" / "rsscn7").is_dir():
        pytest.skip("satellite/rsscn7 is not in the data folder")
    file = Path(__file__).parents[2] / "configs" / "benchmark" / "aid_shift.yaml"
    benchmark = hydra.utils.instantiate(yaml.safe_load(file.read_text()), _convert_="all")
    shifted, theirs = benchmark.splits["rsscn7"], ParquetPool("satellite/rsscn7", split="train").label_names
    assert {split: len(pool) for split, pool in benchmark.splits.items()} == {
        "train": 900,
        "test": 1200,
        "rsscn7": 2800,
    }
    names = {tuple(shifted.label_names[c] for c in right) for right in shifted.extra["accepted"]}
    assert len(theirs) == len(names) == 7 and ("Pond", "River") in names and len(shifted.candidates) == 9
