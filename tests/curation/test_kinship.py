"""Purity, classes and kinship of clusters against loops over rows, and against what chance must give."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchy import Hierarchy
from strata.curation.kinship import (
    classes_per_cluster,
    count_classes,
    dealt_classes,
    dealt_parents,
    kinship,
    majorities,
    mean_kinship,
    purity,
)
from strata.curation.measures.base import Measured
from strata.curation.measures.tree_level import TreeLevel

K = 6
ROWS = st.lists(st.tuples(st.integers(0, K - 1), st.integers(-1, 3)), max_size=40)
PARENTS = st.lists(st.integers(0, 2), min_size=K, max_size=K)


def columns(rows):
    return np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.int64)


def by_cluster(rows):
    return [[label for cluster, label in rows if cluster == c and label >= 0] for c in range(K)]


@settings(deadline=None)
@given(ROWS)
def test_counts_majorities_and_purity_are_those_of_a_loop(rows):
    counts, members = count_classes(*columns(rows), K), by_cluster(rows)
    owner, share = majorities(counts)
    assert counts.sizes.tolist() == [len(m) for m in members]
    best = 0
    for c, labels in enumerate(members):
        if not labels:
            assert owner[c] == -1 and math.isnan(share[c])
            continue
        label, most = min(Counter(labels).items(), key=lambda pair: (-pair[1], pair[0]))
        best += most
        assert owner[c] == label and share[c] == pytest.approx(most / len(labels))
    total = sum(map(len, members))
    assert math.isnan(purity(counts)) if not total else purity(counts) == pytest.approx(best / total)


@settings(deadline=None)
@given(ROWS.filter(lambda rows: any(label >= 0 for _, label in rows)))
def test_classes_per_cluster_is_that_of_a_loop(rows):
    found = []
    for labels in by_cluster(rows):
        shares = [n / len(labels) for n in Counter(labels).values()]
        found += [math.exp(-sum(p * math.log(p) for p in shares))] * len(labels)
    assert classes_per_cluster(count_classes(*columns(rows), K)) == pytest.approx(np.mean(found))


@settings(deadline=None)
@given(ROWS, PARENTS)
def test_kinship_is_that_of_all_pairs(rows, parents):
    found = kinship(count_classes(*columns(rows), K), np.array(parents))
    members = by_cluster(rows)
    for c in range(K):
        sisters = [label for s in range(K) if s != c and parents[s] == parents[c] for label in members[s]]
        pairs = [own == other for own in members[c] for other in sisters]
        assert math.isnan(found[c]) if not pairs else found[c] == pytest.approx(np.mean(pairs))


def test_one_class_per_family_is_all_kin_and_dealt_out_it_is_not():
    parents = np.repeat(np.arange(8), 4)
    clusters = np.repeat(np.arange(32), 5)
    counts = count_classes(clusters, parents[clusters], 32)
    assert mean_kinship(counts, parents) == purity(counts) == classes_per_cluster(counts) == 1.0
    # A random sister is one of 31 clusters, 3 of them of the same class
    assert dealt_parents(counts, parents, 400, 0) == pytest.approx(3 / 31, abs=0.01)
    assert dealt_parents(counts, parents, 3, 0) == dealt_parents(counts, parents, 3, 0)


def test_a_class_that_fills_one_cluster_does_not_count_for_itself():
    """The cluster's own rows are no part of its sisters."""
    counts = count_classes([0, 0, 0, 1], [5, 5, 5, 2], 2)
    assert kinship(counts, np.zeros(2, int)).tolist() == [0.0, 0.0]
    assert np.isnan(kinship(counts, np.arange(2))).all(), "no sisters"


def test_dealt_classes_keep_sizes_and_rows_without_a_class():
    clusters, classes = np.repeat(np.arange(10), 20), np.tile([0, 1, -1, 1], 50)
    seen = []
    dealt_classes(lambda counts: seen.append(counts) or 0.0, clusters, classes, 10, 3, 0)
    for counts in seen:
        assert counts.sizes.tolist() == [15] * 10
        assert np.bincount(counts.label, counts.count).tolist() == [50, 100]
    assert len({tuple(counts.count) for counts in seen}) == 3


def tree() -> Hierarchy:
    """Six clusters of two rows below three, these below one."""
    return Hierarchy.from_assignments([np.repeat(np.arange(6), 2), [0, 0, 1, 1, 2, 2], [0, 0, 0]])


def measured(classes, hierarchy=None):
    n = 12
    labels = None if classes is None else np.asarray(classes)
    return Measured(np.empty((1, 0)), np.zeros(n, int), np.empty((n, 0)), labels, 4, 0, None, hierarchy or tree())


def test_a_level_by_hand():
    found = TreeLevel(level=1, deals=5)(measured([0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 0]))
    values = found.values
    assert (values["clusters"], values["images"]) == (6, 2.0)
    assert values["purity"] == pytest.approx(10 / 12), "two clusters of two classes each"
    assert values["classes"] == pytest.approx((8 * 1 + 4 * 2) / 12)
    assert values["kinship"] == pytest.approx(np.mean([1, 1, 0.5, 0.5, 0.5, 0.5]))
    for name in ("purity", "kinship"):
        assert values[f"{name}_gain"] == pytest.approx(values[name] - values[f"{name}_chance"])
    assert found.columns["parent"].tolist() == [0, 0, 1, 1, 2, 2] and found.columns["label"].tolist() == [
        0,
        0,
        1,
        2,
        3,
        0,
    ]
    assert set(values) == set(TreeLevel.metrics)


def test_the_top_has_no_kin_and_a_pool_without_labels_no_classes():
    top = TreeLevel(level=3)(measured([0] * 12)).values
    assert math.isnan(top["kinship"]) and top["purity"] == 1.0 and top["clusters"] == 1
    for classes in (None, [-1] * 12):
        bare = TreeLevel(level=2)(measured(classes)).values
        assert (bare["clusters"], bare["images"]) == (3, 4.0)
        assert all(math.isnan(value) for name, value in bare.items() if name not in ("clusters", "images"))


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="^measure"):
        TreeLevel(level=0)
    with pytest.raises(DataError, match="a tree of 3 levels"):
        TreeLevel(level=4)(measured([0] * 12))
    with pytest.raises(DataError, match="no tree"):
        TreeLevel()(Measured(np.empty((1, 0)), np.zeros(1, int), np.empty((1, 0)), None, 0, 0))
    with pytest.raises(DataError, match="one of each per row"):
        count_classes([0, 1], [0], 2)
    with pytest.raises(DataError, match="not in 0 to 1"):
        count_classes([0, 2], [0, 0], 2)
