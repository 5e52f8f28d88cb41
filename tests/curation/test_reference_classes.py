"""Clusters of each class of a labelled reference set (Fig. 4, the paper's way)."""

import numpy as np
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.curation.measures.base import Measured
from strata.curation.measures.reference_classes import ClustersPerReferenceClass


def blobs(clusters_of_class: list[int], items: list[int]) -> Measured:
    """Class c is a place at 100 c with so many centroids, each with so many items of an unlabelled pool; five references each."""
    points = np.array([[100.0 * c + i] for c, k in enumerate(clusters_of_class) for i in range(k)])
    labels = np.repeat(np.arange(len(points)), np.repeat(items, clusters_of_class))
    reference = np.repeat(100.0 * np.arange(len(items)), 5)[:, None] + np.arange(5)[None].repeat(len(items), 0).reshape(
        -1, 1
    )
    classes = np.repeat(np.arange(len(items)), 5)
    return Measured(points, labels, np.empty((len(labels), 0)), None, 0, 0, None, None, reference, classes)


def test_clusters_in_proportion_and_the_same_number_for_each():
    found = ClustersPerReferenceClass(3)(blobs([8, 4, 2, 1], [5, 5, 5, 5]))
    assert found.columns["clusters"].tolist() == [8, 4, 2, 1] and found.columns["items"].tolist() == [40, 20, 10, 5]
    assert found.values["slope_by_clusters"] == pytest.approx(1)
    assert found.values["correlation_by_clusters"] == pytest.approx(1)
    assert found.values["clusters_of_largest"] == found.values["most_clusters"] == 8
    even = ClustersPerReferenceClass(3)(blobs([2, 2, 2, 2], [50, 20, 9, 1]))
    assert even.values["slope_by_clusters"] == 0 and np.isnan(even.values["correlation_by_clusters"])


def test_the_share_is_that_of_the_ten_largest_and_classes_without_a_cluster_do_not_count():
    measured = blobs([1] * 12 + [0], [30] * 10 + [1, 1, 1])
    found = ClustersPerReferenceClass(3)(measured)
    assert found.values["share_of_largest"] == pytest.approx(10 / 12) and found.columns["class"].tolist() == list(
        range(12)
    )


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match=r"^measure\.n_neighbors"):
        ClustersPerReferenceClass(0)
    with pytest.raises(DataError, match=r"references\.labelled"):
        ClustersPerReferenceClass()(Measured(np.zeros((1, 2)), np.zeros(1, int), np.zeros((1, 0)), None, 0, 0))
