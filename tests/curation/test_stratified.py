import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from strata.curation import Hierarchy
from strata.curation.errors import ConfigError
from strata.curation.stratified import StratifiedBatchSampler, WeightedBatchSampler


def random_tree(seed, n=300, k=(40, 12, 5)):
    """Skewed sizes and some empty clusters on every level."""
    rng = np.random.default_rng(seed)
    items = (n, *k[:-1])
    levels = [rng.choice(c, m, p=rng.dirichlet(np.full(c, 0.5))) for m, c in zip(items, k, strict=True)]
    return Hierarchy.from_assignments(levels)


def first(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def top_counts(h, batch):
    counts = np.bincount(h.labels(h.n_levels)[batch], minlength=h.n_clusters[-1])
    return counts[h.sizes(h.n_levels) > 0]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 70), st.sampled_from([0.0, 0.4, 1.0]), st.integers(0, 10))
def test_every_batch_is_spread_over_the_top_clusters(seed, size, temperature, sampler_seed):
    h = random_tree(seed)
    share = np.bincount(h.labels(3), h.weights(temperature), minlength=h.n_clusters[2])[h.sizes(3) > 0]
    for batch in first(StratifiedBatchSampler(h, size, temperature=temperature, seed=sampler_seed), 5):
        counts = top_counts(h, batch)
        assert len(batch) == size and (np.abs(counts - size * share) < 1).all()
        if temperature == 1:
            assert counts.max() - counts.min() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 300), st.sampled_from([0.0, 0.4, 1.0]))
def test_distinct_rows_as_even_as_capacities_allow(seed, size, temperature):
    h = random_tree(seed)
    sampler = StratifiedBatchSampler(h, size, temperature=temperature, seed=seed, distinct=True)
    sizes = h.sizes(3)[h.sizes(3) > 0]
    for batch in first(sampler, 3):
        assert len(set(batch)) == len(batch) == size
        counts = top_counts(h, batch)
        assert (counts <= sizes).all()
        with_room = counts[counts < sizes]
        if temperature == 1 and len(with_room):
            assert counts.max() <= with_room.min() + 1


def test_with_one_row_each_the_whole_pool_is_a_batch():
    h = random_tree(3)
    assert sorted(first(StratifiedBatchSampler(h, h.n, distinct=True), 1)[0]) == list(range(h.n))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["stratified", "weighted"])
def test_long_run_frequencies_are_the_weights(kind, temperature):
    h, batches, size = random_tree(1, n=80, k=(20, 6, 3)), 6000, 16
    weights = h.weights(temperature)
    sampler = (
        StratifiedBatchSampler(h, size, temperature=temperature, seed=2)
        if kind == "stratified"
        else WeightedBatchSampler(weights, size, seed=2)
    )
    seen = np.bincount(np.concatenate(first(sampler, batches)), minlength=h.n)
    expected = batches * size * weights
    # Independent draws have this variance; stretches only lower it. 80 rows: 4.5 sigma is passed by chance once in 2,000.
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected * (1 - weights)) + 1).all()
    chi_square = ((seen - expected) ** 2 / expected).sum()
    assert chi_square < h.n + 5 * np.sqrt(2 * h.n)


def test_clusters_below_are_spread_more_than_by_chance():
    """4 tops of 4 equal clusters: a batch of 16 drawn independently would have a variance of 16 x 1/16 x 15/16."""
    h = Hierarchy.from_assignments([np.repeat(np.arange(16), 50), np.repeat(np.arange(4), 4)])
    counts = np.array([np.bincount(h.labels(1)[b], minlength=16) for b in first(StratifiedBatchSampler(h, 16), 500)])
    assert counts.mean(0) == pytest.approx(np.ones(16), abs=0.15)
    assert counts.var() < 0.5 * 15 / 16


def test_any_two_rows_of_different_clusters_meet():
    """Equal stretches alone would put the same rows together for ever."""
    h = Hierarchy.from_assignments([np.repeat(np.arange(2), 6)])
    batches = first(StratifiedBatchSampler(h, 4), 2000)
    met = Counter(pair for batch in batches for pair in itertools.combinations(sorted(set(batch)), 2))
    across = [met[a, b] for a in range(6) for b in range(6, 12)]
    inside = [met[a, b] for a in range(6) for b in range(a + 1, 6)]
    assert min(across) > 100 and min(inside) > 50


def test_any_two_clusters_meet_in_batches_smaller_than_their_number():
    h = Hierarchy.from_assignments([np.repeat(np.arange(10), 3)])
    met = Counter()
    for batch in first(StratifiedBatchSampler(h, 5), 500):
        met.update(itertools.combinations(sorted(h.labels()[batch].tolist()), 2))
    assert all(met[pair] > 50 for pair in itertools.combinations(range(10), 2))  # 111 expected


def samplers(**options):
    h = random_tree(0)
    yield StratifiedBatchSampler(h, 24, **options)
    yield StratifiedBatchSampler(h, 24, distinct=True, temperature=0.5, **options)
    yield WeightedBatchSampler(h.weights(0.7), 24, **options)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("stop", [0, 1, 6, 7, 8, 20, 21])
def test_resume_equals_uninterrupted(which, stop):
    def fresh():
        return list(samplers(num_batches=7, seed=5))[which]

    whole = fresh()
    wanted = [batch for _ in range(4) for batch in whole]
    assert len(wanted) == 28 and len({tuple(batch) for batch in wanted}) == 28, "epochs differ"
    started, again = fresh(), fresh()
    got, consumed = train(started, stop)
    again.load_state_dict(json.loads(json.dumps(started.state_dict(consumed))))
    assert got + train(again, 28 - stop)[0] == wanted


def train(sampler, steps):
    """The batches of some steps over as many epochs as it takes, and how many of them are of the last one."""
    got, consumed = [], 0
    while len(got) < steps:
        for consumed, batch in enumerate(sampler, 1):
            got.append(batch)
            if len(got) == steps:
                break
    return got, consumed


def test_a_state_taken_at_every_batch_and_after_a_resume():
    whole = StratifiedBatchSampler(random_tree(0), 8, num_batches=5, seed=1)
    wanted = [batch for _ in range(2) for batch in whole]
    sampler, got = StratifiedBatchSampler(random_tree(0), 8, num_batches=5, seed=1), []
    while len(got) < 10:  # one batch per life
        again = StratifiedBatchSampler(random_tree(0), 8, num_batches=5, seed=1)
        again.load_state_dict(sampler.state_dict())
        sampler = again
        got.append(next(iter(sampler)))
    assert got == wanted


def test_endless_resume():
    sampler = StratifiedBatchSampler(random_tree(0), 8, seed=1)
    wanted = first(StratifiedBatchSampler(random_tree(0), 8, seed=1), 30)
    got = first(sampler, 13)
    again = StratifiedBatchSampler(random_tree(0), 8, seed=1)
    again.load_state_dict(sampler.state_dict())
    assert got + first(again, 17) == wanted
    with pytest.raises(TypeError):
        len(again)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_same_global_batches(world_size):
    h = random_tree(0)
    for whole, *parts in zip(
        samplers(seed=3), *(samplers(seed=3, rank=r, world_size=world_size) for r in range(world_size))
    ):
        for batch, *pieces in zip(first(whole, 20), *(first(part, 20) for part in parts)):
            assert all(len(piece) == 24 // world_size for piece in pieces)
            assert sorted(batch) == sorted(row for piece in pieces for row in piece)
            if not isinstance(whole, WeightedBatchSampler):
                counts = np.array([top_counts(h, piece) for piece in pieces])
                assert (np.ptp(counts, axis=0) <= 1).all(), "each rank's part is spread like the batch"


def test_resume_with_another_number_of_ranks():
    one = StratifiedBatchSampler(random_tree(0), 8, seed=1)
    first(one, 5)
    two = [StratifiedBatchSampler(random_tree(0), 8, seed=1, rank=r, world_size=2) for r in range(2)]
    for part in two:
        part.load_state_dict(one.state_dict())
    wanted = first(StratifiedBatchSampler(random_tree(0), 8, seed=1), 6)[5]
    assert sorted(first(two[0], 1)[0] + first(two[1], 1)[0]) == sorted(wanted)


def test_seeds_and_order():
    h = random_tree(0)
    a, b = (first(StratifiedBatchSampler(h, 16, seed=s), 5) for s in (0, 1))
    assert a != b and a == first(StratifiedBatchSampler(h, 16, seed=0), 5)
    tops = [h.labels(3)[batch] for batch in a]
    assert any((np.diff(labels) < 0).any() for labels in tops), "a batch is not in the order of the clusters"


class Rows(torch.utils.data.Dataset):
    def __getitem__(self, row):
        return row


def test_a_data_loader_with_persistent_workers_resumes():
    def loader(sampler):
        return DataLoader(Rows(), batch_sampler=sampler, num_workers=2, persistent_workers=True)

    h = random_tree(0)
    wanted = list(StratifiedBatchSampler(h, 8, num_batches=9, seed=1))
    sampler = StratifiedBatchSampler(h, 8, num_batches=9, seed=1)
    running = loader(sampler)
    assert len(running) == 9
    got = [batch.tolist() for batch in itertools.islice(running, 4)]
    assert sampler.state_dict()["batch"] > 4, "the loader reads ahead"
    state = sampler.state_dict(consumed=4)
    assert state["batch"] == 4
    again = StratifiedBatchSampler(h, 8, num_batches=9, seed=1)
    again.load_state_dict(state)
    resumed = loader(again)
    assert got + [batch.tolist() for batch in resumed] == wanted
    next_epoch = [batch.tolist() for batch in resumed]  # the same workers
    whole = StratifiedBatchSampler(h, 8, num_batches=9, seed=1)
    list(whole)
    assert next_epoch == list(whole)


def test_zero_weights_are_never_drawn_and_scale_does_not_matter():
    weights = np.array([0, 3.0, 0, 1.0, 0])
    drawn = np.concatenate(first(WeightedBatchSampler(weights, 50, seed=0), 40))
    assert set(drawn.tolist()) == {1, 3} and (drawn == 1).mean() == pytest.approx(0.75, abs=0.05)
    assert first(WeightedBatchSampler(weights * 4, 50, seed=0), 3) == first(
        WeightedBatchSampler(weights, 50, seed=0), 3
    )


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("batch_size", {"batch_size": 0}),
        ("batch_size", {"batch_size": 2.0}),
        ("batch_size", {"batch_size": 9, "world_size": 2}),
        ("batch_size", {"batch_size": 301, "distinct": True}),
        ("num_batches", {"num_batches": 0}),
        ("seed", {"seed": -1}),
        ("rank", {"rank": 2, "world_size": 2}),
        ("temperature", {"temperature": 2}),
    ],
)
def test_bad_settings(field, options):
    with pytest.raises(ConfigError) as error:
        StratifiedBatchSampler(random_tree(0), **({"batch_size": 8} | options))
    assert error.value.field == field


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, np.nan], [[1]]])
def test_bad_weights(weights):
    with pytest.raises(ConfigError, match="weights"):
        WeightedBatchSampler(weights, 2)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("seed", {"seed": 1}),
        ("batch_size", {"batch_size": 16}),
        ("num_batches", {"num_batches": 6}),
        ("temperature", {"temperature": 0.5}),
        ("hierarchy", {"hierarchy": random_tree(1)}),
    ],
)
def test_a_state_of_other_settings_is_refused(field, other):
    state = StratifiedBatchSampler(random_tree(0), 8, num_batches=5).state_dict()
    given = {"hierarchy": random_tree(0), "batch_size": 8, "num_batches": 5} | other
    with pytest.raises(ConfigError) as error:
        StratifiedBatchSampler(**given).load_state_dict(state)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("state", {"batch": None}),
        ("state.batch", {"batch": 5}),
        ("state.epoch", {"epoch": -1}),
        ("sampler", {"settings": {}}),
    ],
)
def test_a_broken_state_is_refused(field, change):
    sampler = StratifiedBatchSampler(random_tree(0), 8, num_batches=5)
    state = sampler.state_dict() | change
    if change.get("batch", 0) is None:
        del state["batch"]
    with pytest.raises(ConfigError) as error:
        sampler.load_state_dict(state)
    assert error.value.field == field
    with pytest.raises(ConfigError, match="consumed"):
        sampler.state_dict(consumed=1)
