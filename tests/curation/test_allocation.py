import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.allocation import allocate, first_of_group


def brute_force_level(budget, capacity):
    """Base quotas by raising the level one by one, and how many more are left over."""
    level = 0
    while sum(min(level + 1, a) for a in capacity) <= budget and level < max(capacity, default=0):
        level += 1
    base = [min(level, a) for a in capacity]
    return base, budget - sum(base)


def test_thousand_random_groups_at_once_against_brute_force():
    rng = np.random.default_rng(0)
    groups = [rng.integers(0, 12, rng.integers(0, 9)).tolist() for _ in range(1000)]
    budget = np.array([rng.integers(0, sum(group) + 1) for group in groups])
    parent = np.repeat(np.arange(1000), [len(group) for group in groups])
    capacity = np.concatenate([np.array(group, np.int64) for group in groups])
    shuffle = rng.permutation(len(parent))  # siblings need not lie side by side
    quota = np.empty(len(parent), np.int64)
    quota[shuffle] = allocate(budget, capacity[shuffle], parent[shuffle], rng)
    for index, group in enumerate(groups):
        own = quota[parent == index]
        base, left = brute_force_level(int(budget[index]), group)
        assert own.sum() == budget[index]
        more = own - base
        assert set(more.tolist()) <= {0, 1} and more.sum() == left
        level = max(base, default=0)
        assert all(a > level for a, extra in zip(group, more) if extra)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 1000))
def test_properties(capacity, share, seed):
    budget = int(share * sum(capacity))
    quota = allocate(np.array([budget]), np.array(capacity), np.zeros(len(capacity), int), np.random.default_rng(seed))
    assert quota.sum() == budget and (quota >= 0).all() and (quota <= capacity).all()
    # Even: nobody has two more than one who still has room.
    room = [q for q, a in zip(quota, capacity) if q < a]
    if room:
        assert quota.max() <= min(room) + 1


def test_remainder_goes_to_random_different_siblings_with_room():
    capacity, seen = np.array([1, 5, 5, 5, 0]), np.zeros(5)
    for seed in range(3000):
        quota = allocate(np.array([9]), capacity, np.zeros(5, int), np.random.default_rng(seed))
        assert quota[0] == 1 and quota[4] == 0 and sorted(quota[1:4]) == [2, 3, 3]
        seen += quota == 3
    assert np.abs(seen[1:4] / 3000 - 2 / 3).max() < 0.04


def test_full_and_empty_groups():
    rng = np.random.default_rng(0)
    assert allocate(np.array([10, 0, 0]), np.array([4, 6, 3]), np.array([0, 0, 1]), rng).tolist() == [4, 6, 0]
    assert allocate(np.array([0]), np.array([], int), np.array([], int), rng).tolist() == []


@pytest.mark.parametrize("budget", [-1, 8])
def test_a_budget_that_does_not_fit(budget):
    with pytest.raises(ValueError):
        allocate(np.array([budget]), np.array([3, 4]), np.array([0, 0]), np.random.default_rng(0))


def test_first_of_group():
    group, order = np.array([1, 0, 1, 1, 0, 3]), np.array([2, 4, 1, 0, 3, 5])
    assert first_of_group(group, order, np.array([1, 2, 5, 0])).tolist() == [4, 2, 0]
    assert first_of_group(group, order, np.array([9, 9, 9, 9])).tolist() == [4, 1, 2, 0, 3, 5]
    assert first_of_group(np.array([], int), np.array([], int), np.array([], int)).tolist() == []
    assert first_of_group(np.array([], int), np.array([], int), np.array([3])).tolist() == []


def test_large_levels_are_fast():
    rng = np.random.default_rng(0)
    capacity, parent = rng.integers(0, 20, 100_000), rng.integers(0, 1000, 100_000)
    total = np.bincount(parent, capacity, minlength=1000).astype(np.int64)
    began = time.perf_counter()
    quota = allocate(total // 2, capacity, parent, rng)
    assert time.perf_counter() - began < 1  # about 0.03 s; a Python call per node would take several
    assert np.array_equal(np.bincount(parent, quota, minlength=1000), total // 2)


def test_the_draws_of_a_seed_stay():
    """Golden: clusterings and subsets of earlier versions are made again; a change raises the stages' VERSION."""
    rng = np.random.default_rng(0)
    capacity, parent = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3]), np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 0])
    assert allocate(np.array([13, 7]), capacity, parent, rng).tolist() == [3, 1, 3, 1, 2, 2, 2, 2, 1, 3]
