"""Subsets, long tails and mixtures of pools."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.concat import ConcatPool
from strata.curation.pools.long_tail import LongTailPool, tail_sizes
from strata.curation.pools.subset import SubsetPool


class Plain:
    """A pool of one-color images whose red value is the row; row ``bad`` cannot be read."""

    def __init__(self, labels, name="plain", label_names=None, bad=None):
        self.n = len(labels) if not isinstance(labels, int) else labels
        self.labels = None if isinstance(labels, int) else np.array(labels, dtype=np.int64)
        self.name, self.label_names, self.bad = name, label_names, bad
        self.ids = [f"i{row}" for row in range(self.n)]
        self.fingerprint = f"{name}{labels}"

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if row == self.bad:
            raise UnreadableItem(row, self.ids[row], "broken")
        if not 0 <= row < self.n:
            raise IndexError(row)
        return Image.new("RGB", (2, 2), (row, 0, 0))

    def column(self, name):
        return np.arange(self.n) * 10

    def describe(self):
        return {"reader": "plain"}


def red(pool):
    return [pool[i].getpixel((0, 0))[0] for i in range(len(pool))]


def test_subset():
    pool = SubsetPool(Plain([0, 1, 2, 1, 0], label_names=["a", "b", "c"], bad=2), [4, 0, 4, 2])
    assert isinstance(pool, Pool) and len(pool) == 4
    assert pool.labels.tolist() == [0, 0, 0, 2] and pool.label_names == ["a", "b", "c"]
    assert list(pool.ids) == ["i4", "i0", "i4#2", "i2"] and pool.column("x").tolist() == [40, 0, 40, 20]
    assert pool[0].getpixel((0, 0))[0] == 4
    with pytest.raises(UnreadableItem) as caught:
        pool[3]
    assert (caught.value.row, caught.value.item_id, caught.value.why) == (3, "i2", "broken")
    with pytest.raises(IndexError):
        pool[4]


def test_subset_fingerprint_depends_on_rows_and_pool():
    base = Plain(5)
    prints = [SubsetPool(p, rows).fingerprint for p, rows in [(base, [0, 1]), (base, [1, 0]), (Plain(6), [0, 1])]]
    assert len(set(prints)) == 3 and SubsetPool(base, np.array([0, 1])).fingerprint == prints[0]


def test_subset_from_files(tmp_path):
    np.save(tmp_path / "indices.npy", np.array([3, 1]))
    assert (
        red(SubsetPool(Plain(5), str(tmp_path))) == red(SubsetPool(Plain(5), str(tmp_path / "indices.npy"))) == [3, 1]
    )
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no array of rows"):
        SubsetPool(Plain(5), str(tmp_path / "objects.npy"))


@pytest.mark.parametrize("rows", [[], [5], [-1], [0.5], [[0]], [True]])
def test_subset_bad_rows(rows):
    with pytest.raises(ConfigError, match=r"pool\.rows"):
        SubsetPool(Plain(5), rows)


def test_long_tail_exact_sizes():
    pool = LongTailPool(Plain(np.repeat(np.arange(10), 60).tolist()), alpha=1.0, seed=4)
    sizes = np.bincount(pool.labels, minlength=10)
    # 60 items at rank 1; rank r keeps floor(60 / r)
    assert sizes[np.argsort(pool.class_rank)].tolist() == [60, 30, 20, 15, 12, 10, 8, 7, 6, 6]
    assert sorted(pool.class_rank) == list(range(1, 11))
    assert (pool.column("class_rank") == pool.class_rank[pool.labels]).all()
    assert (np.diff(pool.rows) > 0).all()


@settings(deadline=None)
@given(
    st.lists(st.integers(3, 40), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(3, 30)),
)
def test_tail_sizes_against_the_formula(available, alpha, least, most):
    sizes = tail_sizes(np.array(available), alpha, least, most)
    top = min(a * (r + 1) ** alpha for r, a in enumerate(available))
    top = min(top, most) if most is not None else top
    for r, size in enumerate(sizes):
        exact = top / (r + 1) ** alpha
        assert size == least or abs(size - exact) < 1 and size <= exact + 1e-6
        assert least <= size <= available[r]
    # as large as the data allow: one class (or the limit) is used up
    full = [size == a for size, a in zip(sizes, available)]
    assert any(full) or sizes[0] == most


def test_long_tail_is_seeded_and_skips_unlabeled_and_empty_classes():
    labels = [0, 0, 0, 0, 2, 2, 2, 2, -1, -1, 3, 3, 3, 3]
    pools = [LongTailPool(Plain(labels), 1.0, seed=seed) for seed in range(8)]
    assert all(-1 not in pool.labels for pool in pools) and all(pool.class_rank[1] == 0 for pool in pools)
    assert all(sorted(np.bincount(pool.labels)) == [0, 1, 2, 4] for pool in pools)
    assert len({pool.fingerprint for pool in pools}) > 1
    assert LongTailPool(Plain(labels), 1.0, seed=3).fingerprint == pools[3].fingerprint
    assert math.isclose(pools[0].describe()["alpha"], 1.0)


@pytest.mark.parametrize(
    ("labels", "change", "field"),
    [
        (5, {}, "pool"),
        ([-1, -1], {}, "pool"),
        ([0, 1], {"alpha": -1.0}, "alpha"),
        ([0, 1], {"min_per_class": 0}, "min_per_class"),
        ([0, 0, 1], {"min_per_class": 2}, "min_per_class"),
        ([0, 0, 1, 1], {"min_per_class": 2, "max_per_class": 1}, "min_per_class"),
    ],
)
def test_long_tail_bad_settings(labels, change, field):
    with pytest.raises(ConfigError, match=rf"pool\.{field}: "):
        LongTailPool(Plain(labels), **{"alpha": 1.0, **change})


def parts():
    return [
        Plain([1, 0, -1], name="a", label_names=["x", "y"]),
        Plain(2, name="b"),
        Plain([2, 0], name="c", bad=1),
    ]


def test_concat_own_labels():
    pool = ConcatPool(parts())
    assert isinstance(pool, Pool) and len(pool) == 7 and pool.name == "a+b+c"
    assert list(pool.ids) == ["a/i0", "a/i1", "a/i2", "b/i0", "b/i1", "c/i0", "c/i1"]
    assert pool.labels.tolist() == [1, 0, -1, -1, -1, 4, 2]
    assert pool.label_names == ["a/x", "a/y", "c/0", "c/1", "c/2"]
    assert [pool[i].getpixel((0, 0))[0] for i in range(6)] == [0, 1, 2, 0, 1, 0]
    assert pool.column("pool").tolist() == [0, 0, 0, 1, 1, 2, 2]
    with pytest.raises(UnreadableItem) as caught:
        pool[6]
    assert (caught.value.row, caught.value.item_id) == (6, "c/i1")
    with pytest.raises(IndexError):
        pool[7]


def test_concat_other_labels():
    by_pool = ConcatPool(parts(), labels="pool")
    assert by_pool.labels.tolist() == [0, 0, 0, 1, 1, 2, 2] and by_pool.label_names == ["a", "b", "c"]
    assert ConcatPool(parts(), labels="none").labels is None
    assert ConcatPool([Plain(2, name="a"), Plain(2, name="b")]).labels is None
    same = [Plain([0, 1], name=name, label_names=["x", "y"]) for name in "ab"]
    shared = ConcatPool(same, labels="shared")
    assert shared.labels.tolist() == [0, 1, 0, 1] and shared.label_names == ["x", "y"]
    with pytest.raises(ConfigError, match=r"pool\.labels"):
        ConcatPool(parts(), labels="shared")


def test_concat_names():
    same = [Plain(2), Plain(2)]
    with pytest.raises(ConfigError, match=r"pool\.pools: holds \['plain'\] more than once"):
        ConcatPool(same)
    assert list(ConcatPool({"u": same[0], "v": same[1]}).ids) == ["u/i0", "u/i1", "v/i0", "v/i1"]
    with pytest.raises(ConfigError, match=r"pool\.pools: is empty"):
        ConcatPool([])
    with pytest.raises(ConfigError, match=r"pool\.labels"):
        ConcatPool(same, labels="mine")


def test_concat_fingerprint():
    a, b, _ = parts()
    assert ConcatPool([a, b]).fingerprint == ConcatPool({"a": a, "b": b}).fingerprint
    assert len({ConcatPool(p).fingerprint for p in ([a, b], [b, a], {"a": a, "z": b})}) == 3
