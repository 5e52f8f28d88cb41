"""longtail and fairness: hand cases, counts of train, gaps of the paper's Table 5c."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import relative_gap
from strata.eval.protocols.fairness import Fairness
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.longtail import LongTail, ranked

NEAREST = KNN(k=[1], headline_k=1)

# Dollar Street accuracy and gap %, paper Table 5c: low, medium, high income; Africa, Asia, Americas, Europe.
TABLE_5C = [
    ((48.6, 68.3, 79.1), 38.6), ((55.4, 66.3, 72.9, 80.0), 30.8), ((65.1, 82.6, 89.4), 27.2),
    ((72.1, 80.3, 86.6, 89.2), 19.2), ((64.6, 81.9, 89.5), 27.8), ((71.2, 79.9, 85.7, 89.4), 20.4),
    ((65.4, 82.8, 89.8), 27.2), ((72.3, 80.7, 86.2, 89.8), 19.5), ((66.7, 82.9, 89.7), 25.6),
    ((72.7, 81.3, 86.5, 89.0), 18.3),
]  # fmt: skip


@pytest.mark.parametrize(("rates", "gap"), TABLE_5C)
def test_relative_gap_is_that_of_the_paper(rates, gap):
    found = relative_gap(np.array([rates]), np.ones((1, len(rates))))[0]
    assert abs(100 * found - gap) <= 0.1  # the paper rounds what the gap is computed from


def test_ranks_by_count():
    part, decile = ranked(np.array([5, 90, 1, 40, 40, 7, 3, 2, 60, 0]), 0.2)
    assert part.tolist() == [
        "middle", "head", "tail", "middle", "middle", "middle", "middle", "middle", "head", "tail",
    ]  # fmt: skip
    assert decile.tolist() == [6, 1, 9, 3, 4, 5, 7, 8, 2, 10]  # equal counts by id
    assert ranked(np.array([3, 2, 1]), 0.1)[0].tolist() == ["head", "middle", "tail"]
    assert ranked(np.array([3, 2, 2, 1]), 0.49)[0].tolist() == ["head", "middle", "middle", "tail"]


def line(labels):
    """Each class at its place on a circle, so that the nearest neighbor has its label."""
    angle = np.asarray(labels) * 0.5
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_longtail_by_hand(make_features, tmp_path):
    """Classes 0 to 4 with 10, 4, 3, 2, 1 training images; the test set is balanced, so its counts would rank otherwise."""
    y = np.repeat(np.arange(5), [10, 4, 3, 2, 1])
    z = np.repeat(np.arange(5), 4)
    said = z.copy()
    said[[0, 4, 5, 16, 17, 18]] = 2  # 1 wrong of class 0, 2 of class 1, 3 of class 4
    path = make_features(train=(line(y), y), test=(line(said), z))
    scores = {s.metric: s for s in LongTail(NEAREST, share=0.2).run(path, tmp_path / "s", device="cpu")}
    assert scores["head"].value == 0.75
    assert scores["tail"].value == 0.25
    assert scores["middle"].value == pytest.approx((0.5 + 1 + 1) / 3)
    assert [scores[part].n for part in ("head", "middle", "tail")] == [1, 3, 1]
    assert scores["tail"].ci_low < 0.25 < scores["tail"].ci_high
    deciles = scores["top1"].details["deciles"]
    assert [d["accuracy"] for d in deciles] == [0.75, 0.5, 1.0, 1.0, 0.25]
    table = pq.read_table(tmp_path / "s" / "per_class.parquet").to_pydict()
    assert table["n"] == [4] * 5
    assert table["accuracy"] == [0.75, 0.5, 1.0, 1.0, 0.25]


def test_longtail_of_what_has_none(make_features, tmp_path):
    two = make_features(name="two", train=(line([0, 0, 1]), [0, 0, 1]), test=(line([0]), [0]), n_classes=2)
    with pytest.raises(ConfigError, match="2 classes, which have no head, middle and tail"):
        LongTail(NEAREST).run(two, tmp_path / "s", device="cpu")
    y = [0, 0, 0, 1, 1, 2]
    path = make_features(name="gone", train=(line(y), y), test=(line([0, 1]), [0, 1]), n_classes=3)
    with pytest.raises(DataError, match="no image of a class of the tail"):
        LongTail(NEAREST).run(path, tmp_path / "s", device="cpu")
    with pytest.raises(ConfigError, match=r"protocol\.share"):
        LongTail(share=0.5)
    assert not (tmp_path / "s").exists()


def test_fairness_by_hand(make_features, tmp_path):
    z = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    said = z.copy()
    said[[0, 1, 2, 9]] = 1 - z[[0, 1, 2, 9]]
    income = ["low"] * 4 + ["mid"] * 3 + ["high"] * 3
    region = ["asia", "europe"] * 5
    extra = {"test": {"columns": {"group.income": income, "group.region": region}}}
    path = make_features(train=(line([0, 1]), [0, 1]), test=(line(said), z), extra=extra)
    scores = {s.metric: s for s in Fairness(NEAREST).run(path, tmp_path / "s", device="cpu")}
    assert scores["top1"].value == 0.6
    rates = {group: scores[f"top1_income_{group}"].value for group in ("low", "mid", "high")}
    assert rates == pytest.approx({"low": 0.25, "mid": 1.0, "high": 2 / 3})
    assert scores["gap_income"].value == pytest.approx((1.0 - 0.25) / 1.0)
    assert scores["gap_income"].n == 3
    assert scores["top1_income_low"].n == 4
    assert scores["gap_region"].value == pytest.approx(0.0)  # 3 of 5 right in both
    assert scores["gap_income"].ci_low <= scores["gap_income"].value <= scores["gap_income"].ci_high


def test_groups_that_do_not_fit(make_features, tmp_path):
    given = {"train": (line([0, 1]), [0, 1]), "test": (line([0, 1]), [0, 1])}
    for name, columns, match in (
        ("none", {}, "no groups are known"),
        ("same", {"group.income": ["low", "low"]}, "have the same income"),
        ("missing", {"group.income": ["low", None]}, "1 images have no income, first row 1"),
    ):
        path = make_features(name=name, **given, extra={"test": {"columns": columns}})
        with pytest.raises(DataError, match=match):
            Fairness(NEAREST).run(path, tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()
