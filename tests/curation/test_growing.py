"""Pools that grow: new rows to centroids, into the hierarchy, and the smallest change of a selection."""

import numpy as np
import pytest

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError, DataError


def blobs(n, seed, d=5):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(12, d)) * 4
    return (centers[rng.integers(0, 12, n)] + rng.normal(size=(n, d))).astype(np.float32)


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def fitted(request):
    model = HierarchicalKMeans((30, 8), n_resamples=1, metric=request.param, verbose=False, random_state=0)
    return model.fit(blobs(600, 1))


def test_assign_is_predict_with_the_distances_of_the_fit(fitted):
    h = fitted.hierarchy_
    labels, distances = h.assign(blobs(600, 1), metric=fitted.metric)
    assert np.array_equal(labels, fitted.labels_) and labels.dtype == np.int32
    np.testing.assert_array_equal(distances, h.levels[0].distance)
    new = blobs(50, 2)
    labels, distances = h.assign(new, metric=fitted.metric)
    assert np.array_equal(labels, fitted.predict(new))
    x, c = new.astype(float), fitted.cluster_centers_[labels].astype(float)
    if fitted.metric == "cosine":
        x, c = x / np.linalg.norm(x, axis=1, keepdims=True), c / np.linalg.norm(c, axis=1, keepdims=True)
        np.testing.assert_allclose(distances, 1 - (x * c).sum(1), atol=1e-6)
    else:
        np.testing.assert_allclose(distances, np.linalg.norm(x - c, axis=1), rtol=1e-5)


def test_extend_appends_rows_and_leaves_the_rest(fitted):
    h = fitted.hierarchy_
    labels, distances = h.assign(blobs(50, 2), metric=fitted.metric)
    grown = h.extend(labels, distances)
    assert grown.n == 650 and h.n == 600 and grown.n_clusters == h.n_clusters
    for level in (1, 2):
        assert np.array_equal(grown.labels(level)[:600], h.labels(level))
        assert np.array_equal(grown.labels(level)[600:], h.ancestors(labels, level))
        assert grown.sizes(level).sum() == 650
    assert np.array_equal(grown.levels[0].distance[600:], distances)
    assert grown.levels[0].centroids is h.levels[0].centroids
    again = h.extend(labels[:20], distances[:20]).extend(labels[20:], distances[20:])
    assert np.array_equal(again.levels[0].assignment, grown.levels[0].assignment)
    assert np.array_equal(h.extend([], []).levels[0].assignment, h.levels[0].assignment)


@pytest.mark.parametrize("allocation", ["hierarchical", "flat"])
@pytest.mark.parametrize("within", ["random", "closest", "furthest"])
def test_a_selection_in_balance_is_not_touched(fitted, allocation, within):
    h = fitted.hierarchy_
    for n, repeats in ((100, 1), (0, 1), (600, 1), (900, 2), (1200, 2)):
        before = h.sample(n, allocation, within, repeats, random_state=5)
        update = h.update(before, n, allocation, within, repeats, random_state=6)
        assert np.array_equal(update.rows, before) and np.array_equal(update.kept, before)
        assert len(update.dropped) == len(update.added) == 0


def test_growth_changes_little_and_restores_the_quotas(fitted):
    h = fitted.hierarchy_
    before = h.sample(150)
    grown = h.extend(*h.assign(blobs(60, 3), metric=fitted.metric))
    update = grown.update(before, 150)
    again = grown.sample(150)
    assert len(update.kept) > len(np.intersect1d(before, again)), "less is exchanged than by sampling again"
    assert len(update.kept) + len(update.added) == 150 == len(update.kept) + len(update.dropped)
    share = np.bincount(grown.labels(2)[update.rows], minlength=8)
    assert np.array_equal(np.sort(share), np.sort(grown.quotas(150)[1])), "as even as a fresh sample on top"
    more = grown.update(before, 200)
    assert len(more.dropped) == 0 and len(more.added) == 50, "a larger selection of a grown pool only adds here"


def test_surplus_goes_by_within():
    distances = [[3, 1, 2, 5, 4, 0]]
    h = Hierarchy.from_assignments([[0, 0, 0, 0, 0, 1]], distances=distances)
    assert h.update([0, 1, 2, 3, 4], 3, within="closest").rows.tolist() == [1, 2, 5]
    assert h.update([0, 1, 2, 3, 4], 3, within="furthest").rows.tolist() == [3, 4, 5]
    stays = h.update([0, 4], 3, within="closest")  # rows 1 and 2 are closer, but the quota has room for 0 and 4
    assert stays.rows.tolist() == [0, 4, 5] and stays.added.tolist() == [5]
    added = h.update([3], 4, within="closest")
    assert added.kept.tolist() == [3] and added.added.tolist() == [1, 2, 5]


def test_copies_beyond_the_limit_are_dropped():
    h = Hierarchy.from_assignments([[0, 0, 1, 1]])
    update = h.update([0, 0, 0, 2], 4, max_repeats=2)
    assert update.rows.tolist() in ([0, 1, 2, 3],) and update.dropped.tolist() == [0, 0]


def test_copies_that_cannot_stay_attract_no_remainder():
    """5 of two top clusters: 2 each, the fifth to the one with a third old row, not to the one with a third old copy."""
    h = Hierarchy.from_assignments([[0, 1, 1, 1, 2, 2, 2, 2], [0, 0, 1]])
    for seed in range(20):
        update = h.update([0, 0, 4, 5, 6], 5, random_state=seed)
        assert update.kept.tolist() == [0, 4, 5, 6] and update.dropped.tolist() == [0]


def test_ties_are_drawn():
    """One of five equal clusters gets the remainder; with nothing to keep every one does at times."""
    h = Hierarchy.from_assignments([np.repeat(np.arange(5), 4)])
    winners = {int(h.labels()[h.update([], 1, random_state=seed).rows[0]]) for seed in range(60)}
    assert winners == set(range(5))
    assert {int(h.update([7], 1, random_state=seed).rows[0]) for seed in range(20)} == {7}


def test_bad_input(fitted):
    h, bare = fitted.hierarchy_, Hierarchy.from_assignments([[0, 1, 1]])
    calls = {
        "hierarchy": lambda: bare.assign(blobs(3, 0), metric="euclidean"),
        "hierarchy.metric": lambda: h.assign(blobs(3, 0), metric="l1"),
        "X": lambda: h.assign(blobs(3, 0, d=4), metric="euclidean"),
        "labels": lambda: h.extend([30], [0.0]),
        "distances": lambda: h.extend([3]),
        "old": lambda: h.update([600], 10),
        "sample.size": lambda: h.update([1], 601),
        "sample.within": lambda: bare.update([1], 2, within="closest"),
        "sample.allocation": lambda: bare.update([1], 2, "even"),
        "random_state": lambda: bare.update([1], 2, random_state=0.5),
    }
    more = [
        ("labels", lambda: h.extend([0.0], [0.0])),
        ("labels", lambda: h.extend([[0]], [[0.0]])),
        ("labels", lambda: h.extend([-1], [0.0])),
        ("distances", lambda: h.extend([3, 4], [1.0])),
        ("distances", lambda: h.extend([3], [np.nan])),
        ("distances", lambda: bare.extend([1], [0.0])),
        ("old", lambda: h.update([1.0], 10)),
        ("old", lambda: h.update([[1]], 10)),
        ("old", lambda: h.update([-1], 10)),
    ]
    for field, call in [*calls.items(), *more]:
        with pytest.raises(ConfigError) as error:
            call()
        assert error.value.field == field
    with pytest.raises(DataError, match="row"):
        h.assign(np.full((2, 5), np.nan, np.float32), metric="euclidean")
