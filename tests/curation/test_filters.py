"""Near duplicates, test leaks, and samplers on what filters leave."""

import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from strata.curation import EmbeddingStore, HierarchicalKMeans, Hierarchy
from strata.curation.errors import ConfigError
from strata.curation.restrict import SourceRows, restrict_hierarchy, restrict_values
from strata.curation.samplers.all import AllRows
from strata.curation.samplers.density import InverseDensity
from strata.curation.samplers.filtered import Filtered
from strata.curation.samplers.hierarchical import HierarchicalRows
from strata.curation.samplers.label_balanced import LabelBalanced
from strata.curation.samplers.leaks import Leaks, nearest_across
from strata.curation.samplers.metadata_cap import MetadataCap
from strata.curation.samplers.near_duplicates import NearDuplicates, find_near_duplicates
from strata.curation.samplers.random import RandomRows
from strata.curation.samplers.semdedup import SemDeDup
from strata.curation.subset import write_subset

DIGITS = load_digits()
PIXELS = DIGITS.data - DIGITS.data.mean(0)


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def duplicates_by_hand(X, threshold):
    match = [-1] * len(X)
    for row in range(len(X)):
        for first in range(row):
            if match[first] < 0 and cosine(X[first], X[row]) >= threshold:
                match[row] = first
                break
    return match


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.7, 0.95, 1.0]))
def test_the_first_of_near_duplicates_stays(seed, threshold):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 3))
    X[rng.integers(0, 40, 10)] = X[rng.integers(0, 40, 10)]
    match, similarity = find_near_duplicates(X, threshold)
    assert match.tolist() == duplicates_by_hand(X, threshold - 1e-9)
    dropped = np.flatnonzero(match >= 0)
    assert np.allclose(similarity[dropped], [cosine(X[row], X[match[row]]) for row in dropped])
    assert np.isnan(similarity[match < 0]).all() and (similarity[dropped] >= threshold - 2e-9).all()


def test_near_duplicates_across_blocks_of_queries(monkeypatch):
    monkeypatch.setattr("strata.curation.samplers.near_duplicates.QUERIES", 7)
    X = PIXELS[:150]
    match, _ = find_near_duplicates(X, 0.8)
    assert match.tolist() == duplicates_by_hand(X, 0.8) and 10 < (match >= 0).sum() < 140


def test_near_duplicates_of_real_digits():
    kept = NearDuplicates(0.93).filter(size=1797, random_state=0, embeddings=PIXELS)
    report = kept.dropped.to_pydict()
    assert list(report) == ["row", "match_row", "similarity"] and report["row"] == sorted(report["row"])
    assert sorted([*kept.rows, *report["row"]]) == list(range(1797)) and 20 < len(report["row"]) < 600
    assert set(report["match_row"]) <= set(kept.rows)
    same = DIGITS.target[report["row"]] == DIGITS.target[report["match_row"]]
    assert same.mean() > 0.99, "near copies of a digit show the same digit"


def leaks_by_hand(pool, test, rule, threshold):
    table = np.array([[cosine(a, b) for b in test] for a in pool])
    if rule == "threshold":
        return sorted(np.flatnonzero(table.max(1) >= threshold).tolist())
    return sorted(
        {int(table[:, t].argmax()) for t in range(len(test)) if threshold is None or table[:, t].max() >= threshold}
    )


@pytest.mark.parametrize(
    ("rule", "threshold"), [("threshold", 0.6), ("threshold", 0.999), ("top1", None), ("top1", 0.7)]
)
def test_leaks_by_hand(rule, threshold, monkeypatch):
    monkeypatch.setattr("strata.curation.samplers.leaks.TILE", 16)
    rng = np.random.default_rng(1)
    pool, test = rng.normal(size=(90, 5)), rng.normal(size=(25, 5))
    test[:6] = 3 * pool[10:16]  # a copy at another scale has cosine 1
    kept = Leaks(rule, threshold).filter(size=90, random_state=0, embeddings=pool, test=test)
    report = kept.dropped.to_pydict()
    assert report["row"] == leaks_by_hand(pool, test, rule, threshold) and set(range(10, 16)) <= set(report["row"])
    assert kept.rows.tolist() == sorted(set(range(90)) - set(report["row"]))
    for row, item, similarity in zip(report["row"], report["test_row"], report["similarity"]):
        assert similarity == pytest.approx(cosine(pool[row], test[item]))
        if rule == "threshold":
            assert similarity == pytest.approx(max(cosine(pool[row], other) for other in test), abs=1e-6)
    near_pool, near_test = nearest_across(pool, test)
    assert near_pool[12] == 2 and near_test[2] == 12


def test_leaks_of_real_digits_are_reported_with_ids(tmp_path):
    rng = np.random.default_rng(0)
    leaked = rng.choice(1200, 30, replace=False)
    pool, test = PIXELS[:1200], np.concatenate([PIXELS[1200:1500], PIXELS[leaked]])
    store = EmbeddingStore.from_array(tmp_path / "test", test, [f"test-{row}" for row in range(330)])
    sampler = Filtered([Leaks(threshold=0.999)], LabelBalanced())
    chosen = sampler.select(400, size=1200, random_state=0, labels=DIGITS.target[:1200], embeddings=pool, test=store)
    assert len(chosen.rows) == 400 and not set(chosen.rows) & set(leaked)
    write_subset(tmp_path / "s", chosen, ids=[f"pool-{row}" for row in range(1200)], labels=None, label_names=None)
    pairs = pq.read_table(tmp_path / "s" / "dropped_test_leaks.parquet").to_pydict()
    assert list(pairs) == ["row", "test_row", "similarity", "test_id", "id"] and pairs["row"] == sorted(leaked.tolist())
    assert all(leaked[int(test_id[5:]) - 300] == row for test_id, row in zip(pairs["test_id"], pairs["row"]))
    assert pairs["id"] == [f"pool-{row}" for row in pairs["row"]] and min(pairs["similarity"]) > 0.999


def test_a_restricted_hierarchy_is_that_of_a_pool_without_the_rest():
    rng = np.random.default_rng(0)
    first, second, distance = rng.integers(0, 12, 100), np.arange(12) % 4, rng.random(100)
    rows = np.sort(rng.choice(np.flatnonzero(first != 5), 50, replace=False))
    tree = restrict_hierarchy(Hierarchy.from_assignments([first, second], distances=[distance, np.zeros(12)]), rows)
    assert tree.n == 50 and tree.n_clusters == (12, 4) and tree.sizes(1)[5] == 0
    alone = Hierarchy.from_assignments([first[rows], second], distances=[distance[rows], np.zeros(12)])
    assert np.array_equal(tree.sample(20, within="closest"), alone.sample(20, within="closest"))
    assert np.allclose(tree.weights(), alone.weights()) and np.array_equal(tree.sizes(2), alone.sizes(2))
    assert restrict_values(list("abcd"), np.array([0, 3])) == ["a", "d"]
    source = SourceRows(EmbeddingLike(np.arange(200.0).reshape(100, 2)), rows)
    assert source.shape == (50, 2) and np.array_equal(source.read(3, 6)[:, 0], 2.0 * rows[3:6])
    assert np.array_equal(source.take(np.array([7, 1]))[:, 1], 2.0 * rows[[7, 1]] + 1)


class EmbeddingLike:
    """A source that can only read ranges."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def read(self, start, stop):
        return self.array[start:stop]


@pytest.fixture(scope="module")
def digits():
    model = HierarchicalKMeans([120, 30, 8], n_resamples=1, n_iter=10, verbose=False).fit(PIXELS)
    return {
        "hierarchy": model.hierarchy_,
        "labels": DIGITS.target,
        "embeddings": PIXELS,
        "metadata": [str(t) for t in DIGITS.target],
    }


@pytest.mark.parametrize(
    "inner",
    [
        RandomRows(),
        HierarchicalRows(),
        HierarchicalRows(max_repeats=3),
        LabelBalanced(),
        MetadataCap("digit"),
        InverseDensity(),
        AllRows(),
        SemDeDup(),
    ],
    ids=repr,
)
def test_any_sampler_on_what_is_left(inner, digits):
    dedup = SemDeDup(fraction=0.6)
    sampler = Filtered([NearDuplicates(0.93), dedup], inner)
    first = NearDuplicates(0.93).filter(size=1797, random_state=5, **digits).rows
    chosen = sampler.select(500, size=1797, random_state=5, **digits)
    assert len(chosen) == (500 if inner.sized else len(chosen.rows)) and set(chosen.rows) < set(first)
    gone = set()
    for name in list(chosen.reports)[:2]:
        gone |= set(chosen.reports[name]["row"].to_pylist())
    assert not gone & set(chosen.rows)
    assert list(chosen.reports)[:2] == ["dropped_near_duplicates", "dropped_semdedup"]
    # What the sampler itself would select from a pool that consists of the survivors, renumbered.
    left = np.array(sorted(set(range(1797)) - gone))
    assert len(left) == int(np.ceil(0.6 * len(first)))
    own = digits["hierarchy"].levels
    tree = Hierarchy.from_assignments(
        [own[0].assignment[left], own[1].assignment, own[2].assignment],
        distances=[own[0].distance[left], own[1].distance, own[2].distance],
    )
    alone = inner.select(
        500,
        size=len(left),
        random_state=5,
        hierarchy=tree,
        labels=DIGITS.target[left],
        embeddings=PIXELS[left],
        metadata=[str(t) for t in DIGITS.target[left]],
    )
    assert np.array_equal(left[alone.indices], chosen.indices) and np.allclose(alone.weight, chosen.weight)
    if isinstance(inner, SemDeDup):
        assert not set(chosen.reports["dropped_semdedup_2"]["match_row"].to_pylist()) - set(left.tolist())


def test_what_a_filtered_sampler_needs_and_refuses(digits):
    both = Filtered([Leaks(threshold=0.9), SemDeDup(threshold=0.9)], HierarchicalRows(max_repeats=4))
    assert both.needs == {"embeddings", "test", "hierarchy"} and both.sized and both.max_repeats == 4
    assert not Filtered([NearDuplicates(0.9)], AllRows()).sized
    assert Filtered([NearDuplicates(0.9)], MetadataCap("tags")).column == "tags"
    with pytest.raises(ConfigError, match=r"references\.test"):
        both.select(10, size=1797, random_state=0, **digits)
    with pytest.raises(ConfigError, match=r"sample\.size"):
        Filtered([SemDeDup(fraction=0.1)], RandomRows()).select(181, size=1797, random_state=0, **digits)
    with pytest.raises(ConfigError, match="leave none"):
        Filtered([Leaks(threshold=-1)], RandomRows()).select(1, size=1797, random_state=0, test=PIXELS[:1], **digits)
    for filters, sampler in (
        ([], RandomRows()),
        ([RandomRows()], RandomRows()),
        ([NearDuplicates(0.9)], Leaks("top1")),
    ):
        with pytest.raises(ConfigError, match=r"sampler\."):
            Filtered(filters, sampler)
    for bad in (
        lambda: Leaks(),
        lambda: Leaks("other"),
        lambda: Leaks(threshold=2),
        lambda: NearDuplicates(1.1),
        lambda: NearDuplicates(0.9, "x"),
    ):
        with pytest.raises(ConfigError):
            bad()
    with pytest.raises(ConfigError, match=r"references\.test"):
        Leaks("top1").filter(size=1797, random_state=0, embeddings=PIXELS, test=np.ones((2, 3)))


def test_leaks_among_200_000_rows_in_seconds():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200_000, 64)).astype(np.float32)
    leaked = np.sort(rng.choice(200_000, 500, replace=False))
    test = np.concatenate([rng.normal(size=(500, 64)), rows[leaked] + 0.01])
    start = time.process_time()
    kept = Leaks(threshold=0.99).filter(size=200_000, random_state=0, embeddings=rows, test=test)
    assert kept.dropped["row"].to_pylist() == leaked.tolist()
    assert time.process_time() - start < 20, "CPU seconds; some 1 to 2 measured"


@pytest.mark.slow
def test_near_duplicates_among_200_000_rows():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(1000, 64))[rng.integers(0, 1000, 200_000)] + 0.5 * rng.normal(size=(200_000, 64))).astype(
        "f4"
    )
    rows[100_000:101_000] = rows[:1000] * 2 + 0.01
    start = time.process_time()
    match, _ = find_near_duplicates(rows, 0.98)
    assert (match[100_000:101_000] == np.arange(1000)).mean() > 0.99, "an inverted file finds nearly all"
    assert time.process_time() - start < 60
