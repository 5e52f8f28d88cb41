import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation import Hierarchy
from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError


def random_tree(seed, n=400, k=(60, 15, 4), distances=True):
    """A tree with skewed sizes and some empty clusters on every level."""
    rng = np.random.default_rng(seed)
    counts, assignments = (n, *k), []
    for items, clusters in zip(counts, k):
        share = rng.dirichlet(np.full(clusters, 0.3))
        assignments.append(rng.choice(clusters, items, p=share))
    assignments[-1][0] = k[-1] - 1  # so that from_assignments sees k clusters on top
    return Hierarchy.from_assignments(
        assignments, distances=[rng.random(len(a)) for a in assignments] if distances else None
    )


def small_tree():
    """Rows 0-9 in leaves of 6, 2, 1, 1; leaves 0 and 1 under top 0, leaves 2 and 3 under top 1."""
    return Hierarchy.from_assignments(
        [[0, 0, 0, 0, 0, 0, 1, 1, 2, 3], [0, 0, 1, 1]],
        distances=[[6, 5, 4, 3, 2, 1, 1, 2, 0, 0], [0, 0, 0, 0]],
    )


def test_basic_views():
    h = small_tree()
    assert (h.n, h.n_levels, h.n_clusters) == (10, 2, (4, 2))
    assert h.sizes(1).tolist() == [6, 2, 1, 1] and h.sizes(2).tolist() == [8, 2]
    assert h.labels(2).tolist() == [0] * 8 + [1] * 2
    assert h.ancestors([3, 0, 1], 2).tolist() == [1, 0, 0] and h.ancestors([3, 0], 1).tolist() == [3, 0]
    assert h.members(1, 0).tolist() == [5, 4, 3, 2, 1, 0]  # closest first
    assert h.members(2, 1).tolist() == [2, 3]


def test_order_is_by_cluster_then_distance_then_row():
    h = random_tree(0)
    for level in h.levels:
        order, offsets = level.order, level.offsets
        for cluster in range(level.n_clusters):
            members = order[offsets[cluster] : offsets[cluster + 1]]
            expected = sorted(np.flatnonzero(level.assignment == cluster), key=lambda i: (level.distance[i], i))
            assert members.tolist() == expected


def test_quotas_of_a_tree_done_by_hand():
    h = small_tree()
    # 6 of 10: the top shares 4 and 2 (all that the second has); the first has leaves of 6 and 2: 2 each.
    leaf, top = h.quotas(6)
    assert top.tolist() == [4, 2] and leaf.tolist() == [2, 2, 1, 1]
    assert h.sample(6, within="closest").tolist() == [4, 5, 6, 7, 8, 9]
    assert h.sample(6, within="furthest").tolist() == [0, 1, 6, 7, 8, 9]
    # Flat: the same 4 and 2, but the 4 are any of the 8 points.
    flat = h.quotas(6, allocation="flat")
    assert flat[1].tolist() == [4, 2] and flat[0][:2].sum() == 4


def fill(budget, capacity):
    """Water-filling of one group of siblings without the remainder, raising the level one by one."""
    level = 0
    while sum(min(level + 1, a) for a in capacity) <= budget and level < max(capacity, default=0):
        level += 1
    return np.array([min(level, a) for a in capacity], int)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from(["random", "closest", "furthest"]), st.integers(1, 3))
def test_sample_and_quotas_agree_at_every_level(seed, share, within, repeats):
    h = random_tree(seed)
    n = int(share * h.n * repeats)
    rows = h.sample(n, within=within, max_repeats=repeats, random_state=seed)
    quotas = h.quotas(n, max_repeats=repeats, random_state=seed)
    assert rows.dtype == np.int64 and len(rows) == n and (np.diff(rows) >= 0).all()
    assert np.bincount(rows, minlength=h.n).max() <= repeats
    for level, quota in enumerate(quotas, 1):
        assert quota.sum() == n and quota.dtype == np.int64
        assert np.array_equal(np.bincount(h.labels(level)[rows], minlength=len(quota)), quota)
        assert (quota <= h.sizes(level) * repeats).all()
    # Every group of siblings is filled evenly, whatever drew the remainder.
    parents = [np.zeros(h.n_clusters[-1], int)] + [level.assignment for level in h.levels[:0:-1]]
    above = np.array([n])
    for level, parent in zip(range(h.n_levels, 0, -1), parents):
        quota = quotas[level - 1]
        for node in range(len(above)):
            own = np.flatnonzero(parent == node)
            base = fill(int(above[node]), (h.sizes(level)[own] * repeats).tolist())
            assert set((quota[own] - base).tolist()) <= {0, 1}
            assert quota[own].sum() == above[node]
        above = quota


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from(["random", "closest", "furthest"]), st.integers(1, 3))
def test_flat_allocation(seed, share, within, repeats):
    h = random_tree(seed)
    n = int(share * h.n * repeats)
    rows = h.sample(n, allocation="flat", within=within, max_repeats=repeats, random_state=seed)
    quotas = h.quotas(n, allocation="flat", max_repeats=repeats, random_state=seed)
    assert len(rows) == n and np.bincount(rows, minlength=h.n).max() <= repeats
    for level, quota in enumerate(quotas, 1):
        assert np.array_equal(np.bincount(h.labels(level)[rows], minlength=len(quota)), quota)
    top = h.quotas(n, max_repeats=repeats, random_state=seed)[-1]
    assert np.array_equal(quotas[-1], top)  # on top both allocations share alike


def test_inside_a_flat_subtree_points_are_uniform():
    h = small_tree()
    seen = sum(np.bincount(h.sample(6, allocation="flat", random_state=s), minlength=10) for s in range(2000))
    assert np.abs(seen[:8] / 2000 - 0.5).max() < 0.05 and (seen[8:] == 2000).all()


def test_random_points_of_a_leaf_are_uniform_and_seeds_matter():
    h = small_tree()
    seen = sum(np.bincount(h.sample(6, random_state=s), minlength=10) for s in range(2000))
    assert np.abs(seen[:6] / 2000 - 1 / 3).max() < 0.05
    big = random_tree(1, n=5000)
    assert np.array_equal(big.sample(500, random_state=3), big.sample(500, random_state=3))
    assert not np.array_equal(big.sample(500, random_state=3), big.sample(500, random_state=4))
    assert not np.array_equal(big.sample(500, random_state=None), big.sample(500, random_state=None))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 400))
def test_closest_and_furthest_really_are(seed, n):
    h = random_tree(seed)
    labels, distance = h.labels(1), h.levels[0].distance
    for within, sign in (("closest", 1), ("furthest", -1)):
        chosen = np.zeros(h.n, bool)
        chosen[h.sample(n, within=within, random_state=seed)] = True
        for cluster in range(h.n_clusters[0]):
            own = labels == cluster
            if (own & chosen).any() and (own & ~chosen).any():
                assert (sign * distance[own & chosen]).max() <= (sign * distance[own & ~chosen]).min()


def test_repeats_differ_by_at_most_one_inside_a_leaf():
    h = random_tree(5)
    counts = np.bincount(h.sample(700, max_repeats=3), minlength=h.n)
    for cluster in range(h.n_clusters[0]):
        own = counts[h.labels(1) == cluster]
        assert own.size == 0 or own.max() - own.min() <= 1


@pytest.mark.parametrize("allocation", ["hierarchical", "flat"])
def test_huge_limits_do_not_overflow(allocation):
    h = random_tree(2)
    for n in (0, 1, 700):
        wanted = h.sample(n, allocation, max_repeats=700)
        assert np.array_equal(h.sample(n, allocation, max_repeats=2**62), wanted)
        assert np.array_equal(h.update(wanted, n, allocation, max_repeats=10**30).kept, wanted)


def test_everything_and_nothing():
    h = random_tree(0)
    for allocation in ("hierarchical", "flat"):
        assert h.sample(h.n, allocation).tolist() == list(range(h.n))
        assert h.sample(0, allocation).tolist() == []
        assert h.sample(2 * h.n, allocation, max_repeats=2).tolist() == np.repeat(np.arange(h.n), 2).tolist()


def test_b1_clusters_of_equal_size():
    """The reference crashes on equal cluster sizes, on k >= n and on k = 1."""
    h = Hierarchy.from_assignments([np.repeat(np.arange(20), 5), np.repeat(np.arange(5), 4)])
    rows = h.sample(40)
    assert rows.dtype == np.int64 and (np.bincount(h.labels(1)[rows]) == 2).all()
    single = Hierarchy.from_assignments([np.arange(10), np.zeros(10, int)])
    assert len(single.sample(7)) == 7


def test_b2_empty_clusters_at_every_level():
    """The reference dies on a cluster of level 2 or above without points."""
    h = Hierarchy.from_assignments([[0, 0, 3, 3, 3], [0, 1, 1, 0], [2, 0, 2]])  # empty: leaves 1, 2; top 0, 1; parent 2
    assert h.sizes(1).tolist() == [2, 0, 0, 3] and h.sizes(2).tolist() == [5, 0, 0] and h.sizes(3).tolist() == [0, 0, 5]
    for n in range(6):
        for allocation in ("hierarchical", "flat"):
            assert len(set(h.sample(n, allocation).tolist())) == n
    assert h.weights(1).sum() == pytest.approx(1)


@pytest.mark.parametrize("n", [11, -1, 2.5])
@pytest.mark.parametrize("allocation", ["hierarchical", "flat"])
def test_never_silently_fewer(n, allocation):
    with pytest.raises(ConfigError) as error:
        small_tree().sample(n, allocation)
    assert error.value.field == "sample.size"
    with pytest.raises(ConfigError):
        small_tree().quotas(n, allocation)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("sample.within", {"within": "f"}),
        ("sample.allocation", {"allocation": "h"}),
        ("sample.max_repeats", {"max_repeats": 0}),
    ],
)
def test_bad_options(field, options):
    with pytest.raises(ConfigError) as error:
        small_tree().sample(3, **options)
    assert error.value.field == field


def test_closest_needs_distances():
    with pytest.raises(ConfigError, match="distances"):
        Hierarchy.from_assignments([[0, 1, 1]]).sample(2, within="closest")


def reference_weights(h, temperature):
    """Recursion over nodes: shares of non-empty children proportional to size^(1 - t), rows of a leaf equal."""
    weights = np.zeros(h.n)

    def visit(level, clusters, share):
        sizes = np.array([h.sizes(level)[c] for c in clusters], float)
        part = np.where(sizes > 0, np.maximum(sizes, 1) ** (1 - temperature), 0)
        for cluster, size, own in zip(clusters, sizes, part / part.sum()):
            if size == 0:
                continue
            if level == 1:
                weights[h.labels(1) == cluster] = share * own / size
            else:
                visit(level - 1, np.flatnonzero(h.levels[level - 1].assignment == cluster), share * own)

    visit(h.n_levels, np.arange(h.n_clusters[-1]), 1.0)
    return weights


@pytest.mark.parametrize("temperature", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_against_recursion(seed, temperature):
    h = random_tree(seed)
    weights = h.weights(temperature)
    assert weights.dtype == np.float64 and weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(weights, reference_weights(h, temperature), rtol=1e-10)


def test_weights_at_the_ends():
    h = small_tree()
    np.testing.assert_allclose(h.weights(0), 0.1)
    np.testing.assert_allclose(h.weights(1), [1 / 24] * 6 + [1 / 8] * 2 + [1 / 4] * 2)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError):
            h.weights(bad)


def test_save_and_load(tmp_path):
    h = random_tree(0)
    for level, k in zip(h.levels, h.n_clusters):
        level.centroids = np.random.default_rng(0).standard_normal((k, 3)).astype(np.float32)
    h.save(tmp_path / "h", key="abc", inputs={"embeddings": "def"}, config={"x": 1})
    manifest = read_manifest(tmp_path / "h", "hierarchy")
    assert (
        manifest["key"] == "abc"
        and manifest["n_clusters"] == [60, 15, 4]
        and manifest["inputs"] == {"embeddings": "def"}
    )
    assert (tmp_path / "h" / "level1" / "assignment.npy").exists()
    back = Hierarchy.load(tmp_path / "h")
    for mine, other in zip(h.levels, back.levels):
        assert mine.n_clusters == other.n_clusters and other.assignment.dtype == np.int32
        for name in ("assignment", "centroids", "distance"):
            assert np.array_equal(getattr(mine, name), getattr(other, name))
    assert np.array_equal(back.sample(100, within="closest"), h.sample(100, within="closest"))
    bare = Hierarchy.from_assignments([[0, 1, 0]])
    bare.save(tmp_path / "bare")
    assert Hierarchy.load(tmp_path / "bare").levels[0].distance is None


@pytest.mark.parametrize("damage", ["missing", "truncated", "wrong length", "out of range", "pickle"])
def test_damaged_folders(tmp_path, damage):
    random_tree(0).save(tmp_path / "h")
    file = tmp_path / "h" / "level2" / "assignment.npy"
    good = np.load(file)
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:150])
    elif damage == "pickle":
        np.save(file, np.array([None]), allow_pickle=True)
    else:
        np.save(file, good[:-1] if damage == "wrong length" else good + 100)
    with pytest.raises(DataError):
        Hierarchy.load(tmp_path / "h")


def test_load_of_something_else(tmp_path):
    with pytest.raises(DataError):
        Hierarchy.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "kind": "pool"}))
    with pytest.raises(DataError, match="pool"):
        Hierarchy.load(tmp_path)


@pytest.mark.parametrize(
    "assignments", [[], [[0, 1], [0, 0, 1]], [[0, 2], [0, 0]], [[0, -1]], [[0.5, 1]], [[]], [[[0, 1]]]]
)
def test_bad_assignments(assignments):
    if assignments == [[0, 1], [0, 0, 1]]:  # a third cluster of level 1 that is empty: allowed
        assert Hierarchy.from_assignments(assignments).sizes(1).tolist() == [1, 1, 0]
        return
    with pytest.raises(DataError):
        Hierarchy.from_assignments(assignments)


def test_levels_and_labels_out_of_range():
    h = small_tree()
    for level in (0, 3):
        with pytest.raises(ConfigError):
            h.sizes(level)
    for call in (lambda: h.ancestors([4], 2), lambda: h.ancestors([-1], 2), lambda: h.members(1, 4)):
        with pytest.raises(ConfigError):
            call()


@pytest.mark.parametrize("too_large", [2**31 - 1, 2**32, 2**63 - 1, np.uint64(2**64 - 1)])
def test_labels_beyond_int32_are_refused_not_wrapped(too_large):
    with pytest.raises(DataError, match="level 1"):
        Hierarchy.from_assignments([np.array([0, 1, too_large], type(too_large))])
    with pytest.raises(DataError, match="level 2"):
        Hierarchy.from_assignments([[0, 1], np.array([0, too_large], type(too_large))])


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("random_state", lambda h: h.sample(3, random_state=1.5)),
        ("random_state", lambda h: h.sample(3, random_state="0")),
        ("random_state", lambda h: h.quotas(3, random_state=-1)),
        ("random_state", lambda h: h.sample(3, random_state=True)),
        ("labels", lambda h: h.ancestors([0.0, 1.0], 2)),
        ("labels", lambda h: h.ancestors([True], 2)),
        ("labels", lambda h: h.ancestors([[0], [1, 2]], 2)),
        ("level", lambda h: h.ancestors([0], 1.0)),
        ("level", lambda h: h.labels(True)),
        ("cluster", lambda h: h.members(1, 0.0)),
        ("sample.max_repeats", lambda h: h.sample(3, max_repeats=1.5)),
        ("sample.max_repeats", lambda h: h.sample(3, max_repeats=True)),
        ("sample.max_repeats", lambda h: h.quotas(3, max_repeats=None)),
        ("sample.size", lambda h: h.sample(True)),
        ("sample.size", lambda h: h.sample(3.0)),
        ("sample.size", lambda h: h.quotas("3")),
        ("sample.size", lambda h: h.sample(None, allocation="flat")),
        ("sample.temperature", lambda h: h.weights("1")),
        ("sample.temperature", lambda h: h.weights(None)),
        ("sample.temperature", lambda h: h.weights(True)),
    ],
)
def test_arguments_of_the_wrong_type(field, call):
    with pytest.raises(ConfigError) as error:
        call(small_tree())
    assert error.value.field == field and "\n" not in str(error.value)


def test_numpy_integers_and_floats_are_numbers():
    h = small_tree()
    assert h.sample(np.int64(4), max_repeats=np.int32(1), random_state=np.uint8(3)).tolist() == (
        h.sample(4, random_state=3).tolist()
    )
    assert np.array_equal(h.weights(np.float32(0.5)), h.weights(0.5)) and np.array_equal(h.weights(1), h.weights(1.0))
    assert h.ancestors([], 2).tolist() == [] and h.ancestors(3, 2) == 1


@pytest.mark.parametrize(
    ("field", "arrays"),
    [
        ("distances", {"distances": [[0, 1]]}),
        ("distances", {"distances": [[0, 1, np.nan], [0, 0]]}),
        ("distances", {"distances": [[0, 1, 1e300], [0, 0]]}),
        ("distances", {"distances": [[0, 1, 2, 3], [0, 0]]}),
        ("distances", {"distances": [[[0, 1, 2]], [0, 0]]}),
        ("distances", {"distances": [["a", "b", "c"], [0, 0]]}),
        ("centroids", {"centroids": [np.zeros((2, 3))]}),
        ("centroids", {"centroids": [np.zeros((3, 3)), np.zeros((1, 3))]}),
        ("centroids", {"centroids": [np.zeros(2), np.zeros((1, 3))]}),
    ],
)
def test_distances_and_centroids_of_the_wrong_shape(field, arrays):
    with pytest.raises(ConfigError) as error:
        Hierarchy.from_assignments([[0, 1, 1], [0, 0]], **arrays)
    assert error.value.field.startswith(field)


def test_a_million_points_in_time():
    rng = np.random.default_rng(0)
    levels = [rng.integers(0, 100_000, 1_000_000), rng.integers(0, 10_000, 100_000), rng.integers(0, 1000, 10_000)]
    h = Hierarchy.from_assignments(levels)
    began = time.perf_counter()
    rows = h.sample(100_000)
    assert time.perf_counter() - began < 1  # 0.06 s on one core; the bound leaves room for a busy machine
    assert len(np.unique(rows)) == 100_000
