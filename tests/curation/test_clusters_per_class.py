"""Clusters of each class against its size (Fig. 4): against loops, and the paper's own points."""

import csv
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.clusters_per_class import (
    balanced_rows,
    classes_by_majority,
    classes_by_neighbors,
    fit_line,
    per_class,
)
from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Measured
from strata.curation.measures.clusters_per_class import ClustersPerClass
from strata.curation.paths import data_root

PAIRS = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 4)), max_size=60)


def slow_majority(clusters, classes, k):
    found = []
    for cluster in range(k):
        counts = Counter(c for j, c in zip(clusters, classes, strict=True) if j == cluster and c >= 0)
        found.append(min(counts, key=lambda c: (-counts[c], c)) if counts else -1)
    return found


@settings(deadline=None)
@given(PAIRS)
def test_majority_is_that_of_a_loop(pairs):
    clusters, classes = [p[0] for p in pairs], [p[1] for p in pairs]
    assert classes_by_majority(clusters, classes, 7, 5).tolist() == slow_majority(clusters, classes, 7)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_neighbors_are_those_of_a_loop(seed, n_neighbors):
    rng = np.random.default_rng(seed)
    centroids, reference, classes = rng.random((6, 3)), rng.random((20, 3)), rng.integers(0, 4, 20)
    expected = []
    for centroid in centroids:
        nearest = sorted(range(20), key=lambda row: np.linalg.norm(reference[row] - centroid))[:n_neighbors]
        counts = Counter(classes[nearest].tolist())
        expected.append(min(counts, key=lambda c: (-counts[c], c)))
    assert classes_by_neighbors(centroids, reference, classes, n_neighbors).tolist() == expected


@settings(deadline=None)
@given(PAIRS.filter(bool))
def test_counts_per_class_are_those_of_a_loop(pairs):
    owners, sizes = np.array([p[1] for p in pairs]), np.array([p[0] + 1 for p in pairs])
    clusters, items = per_class(owners, sizes, 5)
    for c in range(5):
        here = [s for o, s in zip(owners.tolist(), sizes.tolist(), strict=True) if o == c and s > 0]
        assert (clusters[c], items[c]) == (len(here), sum(here))


def test_line_is_numpys():
    x, y = np.random.default_rng(0).random((2, 50))
    found, (slope, intercept) = fit_line(x, y), np.polyfit(x, y, 1)
    assert np.allclose([found.slope, found.intercept, found.correlation], [slope, intercept, np.corrcoef(x, y)[0, 1]])
    flat = fit_line([1, 2, 3], [5, 5, 5])
    assert flat.slope == 0 and np.isnan(flat.correlation)
    assert fit_line([2, 2], [1, 3]).slope == 0
    with pytest.raises(DataError):
        fit_line([1, 2], [1, 2, 3])


@pytest.mark.data
def test_the_papers_own_points_give_the_papers_numbers():
    """The scatter of Fig. 4: slopes 11.52, 7.75, 5.24, 2.74 and correlations .99, .85, .65, .55."""
    file = None if data_root() is None else data_root().parent / "paper" / "fig4_points.csv"
    if file is None or not file.is_file():
        pytest.skip("fig4_points.csv is not beside the data folder")
    points = [row for row in csv.DictReader(file.read_text().splitlines()) if row["row"] == "n_clusters"]
    for levels, slope, correlation in (("1", 11.52, 0.99), ("2", 7.75, 0.85), ("3", 5.24, 0.65), ("4", 2.74, 0.55)):
        xy = np.array([(float(p["class_size_M"]), float(p["value"])) for p in points if p["levels"] == levels])
        found = fit_line(*xy.T)
        assert found.slope == pytest.approx(slope, abs=0.006) and found.correlation == pytest.approx(
            correlation, abs=0.006
        )


def test_balanced_rows():
    classes = np.array([0] * 50 + [1] * 3 + [-1] * 20 + [2] * 10)
    rows = balanced_rows(classes, 5, 0)
    assert np.bincount(classes[rows]).tolist() == [5, 3, 5] and (np.diff(rows) > 0).all()
    assert not np.array_equal(rows, balanced_rows(classes, 5, 1)), "drawn, not the first rows"


def blobs(clusters_of_class: list[int], rows: int) -> Measured:
    """Class c is a blob at 100 c, its clusters tight groups of ``rows`` rows in it."""
    points = np.array([[100.0 * c + i, 0.0] for c, k in enumerate(clusters_of_class) for i in range(k)])
    labels = np.repeat(np.arange(len(points)), rows)
    classes = np.repeat(np.arange(len(clusters_of_class)), np.array(clusters_of_class) * rows)
    data = points[labels] + np.random.default_rng(0).normal(0, 0.01, (len(labels), 2))
    return Measured(points, labels, data, classes, len(clusters_of_class), 0)


@pytest.mark.parametrize("by", ["neighbors", "majority"])
def test_proportional_clusters_have_slope_and_correlation_one(by):
    found = ClustersPerClass(by, n_neighbors=3, per_class=8)(blobs([8, 4, 2, 1], 6))
    assert found.columns["clusters"].tolist() == [8, 4, 2, 1] and found.columns["items"].tolist() == [48, 24, 12, 6]
    for name in ("slope", "correlation", "slope_by_clusters", "correlation_by_clusters"):
        assert found.values[name] == pytest.approx(1)
    assert found.values["clusters_of_largest"] == found.values["most_clusters"] == 8


def test_equal_clusters_have_slope_zero():
    measured = blobs([8, 4, 2, 1], 6)
    one_each = Measured(
        np.array([[100.0 * c, 0.0] for c in range(4)]), measured.classes, measured.data, measured.classes, 4, 0
    )
    found = ClustersPerClass("majority")(one_each)
    assert (
        found.values["slope"] == 0 and np.isnan(found.values["correlation"]) and found.values["share_of_largest"] == 1
    )


def test_chance_keeps_the_number_of_clusters_of_each_class():
    """Only which clusters are whose changes, so equal clusters have correlation 1 with their items by themselves."""
    measured = blobs([8, 4, 2, 1], 6)
    found = ClustersPerClass("chance", n_neighbors=3, per_class=8)(measured)
    assert found.columns["clusters"].tolist() == [8, 4, 2, 1]
    assert found.values["correlation_by_clusters"] == pytest.approx(1)
    uneven = np.minimum(measured.labels, 9)  # the last clusters are one
    dealt = Measured(measured.points, uneven, measured.data, measured.classes, 4, 1)
    owners = ClustersPerClass("chance", n_neighbors=3, per_class=8)(dealt).columns["clustered_items"]
    assert (
        owners.tolist()
        != ClustersPerClass("neighbors", n_neighbors=3, per_class=8)(dealt).columns["clustered_items"].tolist()
    )


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="measure.by"):
        ClustersPerClass("votes")
    with pytest.raises(ConfigError, match="n_neighbors"):
        classes_by_neighbors(np.zeros((1, 2)), np.zeros((3, 2)), np.zeros(3, int), 4)
    with pytest.raises(DataError, match="classes are not in"):
        classes_by_majority([0], [5], 1, 5)
    with pytest.raises(DataError, match="needs labels"):
        ClustersPerClass()(Measured(np.zeros((1, 2)), np.zeros(1, int), np.zeros((1, 2)), None, 0, 0))
    with pytest.raises(DataError, match="do not go together"):
        ClustersPerClass("majority")(
            Measured(np.zeros((1, 2)), np.full(1, -1), np.zeros((1, 2)), np.zeros(1, int), 1, 0)
        )
