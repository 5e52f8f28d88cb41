import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.cluster import kmeans_plusplus

from strata.curation.kmeans import plus_plus as module
from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.grids import FineDistances
from strata.curation.kmeans.init import shares_to_counts
from strata.curation.kmeans.plus_plus import plus_plus
from strata.curation.kmeans.points import Points


def potential(X, rows):
    return np.square(X[:, None] - X[rows]).sum(-1).min(1).sum()


def naive_plus_plus(X, k, rng):
    """Greedy k-means++ one center at a time."""
    rows = [rng.integers(len(X))]
    tries = 2 + int(np.log(k))
    while len(rows) < k:
        closest = np.square(X[:, None] - X[rows]).sum(-1).min(1)
        options = rng.choice(len(X), tries, p=closest / closest.sum())
        rows.append(min(options, key=lambda row: potential(X, [*rows, row])))
    return rows


def test_law_is_that_of_one_center_at_a_time():
    """On five weighted spots: how often each set of spots is chosen, batched against naive (3,000 and 750 draws)."""
    spots = np.array([[0.0, 0], [1, 0], [0, 2], [4, 4], [4, 5]])
    X = np.repeat(spots, [6, 5, 3, 2, 1], axis=0)
    group = np.repeat(np.arange(5), [6, 5, 3, 2, 1])
    points, draws, k = Points(X), 3000, 4
    counts = {"batched": {}, "naive": {}}
    for seed in range(draws):
        for name, rows in (
            ("batched", plus_plus(points, k, np.random.default_rng(seed))),
            ("naive", naive_plus_plus(X, k, np.random.default_rng(draws + seed)) if seed < draws // 4 else None),
        ):
            if rows is not None:
                chosen = tuple(sorted(group[rows]))
                counts[name][chosen] = counts[name].get(chosen, 0) + 1
    for chosen in set(counts["batched"]) | set(counts["naive"]):
        p, q = counts["batched"].get(chosen, 0) / draws, counts["naive"].get(chosen, 0) / (draws // 4)
        spread = np.sqrt(max(p, q) / (draws // 4))
        assert abs(p - q) < 4.5 * spread + 0.002, (chosen, p, q)


def test_rejection_inside_a_batch_keeps_the_law():
    """Ordered triples of centers against the exact probabilities of greedy D^2 draws."""
    X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    points, k, n = Points(X), 3, 8_000
    tries = 2 + int(np.log(k))
    seen = np.zeros((5, 5, 5))
    for seed in range(n):
        seen[tuple(plus_plus(points, k, np.random.default_rng(seed)))] += 1
    expected = np.zeros((5, 5, 5))
    for first in range(5):
        d1 = np.square(X[:, 0] - X[first, 0])
        for second, p2 in greedy_law(X, d1, tries).items():
            d2 = np.minimum(d1, np.square(X[:, 0] - X[second, 0]))
            for third, p3 in greedy_law(X, d2, tries).items():
                expected[first, second, third] += n * p2 * p3 / 5
    assert seen[expected == 0].sum() == 0
    often = expected >= 5
    statistic = (np.square(seen - expected)[often] / expected[often]).sum()
    assert chi2.sf(statistic, often.sum() - 1) > 1e-3


def greedy_law(X, closest, tries):
    """Probability that each point wins ``tries`` independent D^2 draws by the smallest potential (first on ties)."""
    p = closest / closest.sum()
    law = {}
    for draws in np.ndindex(*[len(X)] * tries):
        weight = np.prod(p[list(draws)])
        if weight:
            sums = [np.minimum(closest, np.square(X[:, 0] - X[row, 0])).sum() for row in draws]
            winner = draws[int(np.argmin(sums))]
            law[winner] = law.get(winner, 0) + weight
    return law


def test_as_good_as_scikit_learn_and_better_than_random():
    rng = np.random.default_rng(0)
    X = 5 * rng.standard_normal((80, 6))[rng.integers(0, 80, 3000)] + rng.standard_normal((3000, 6))
    points = Points(X)
    ours = np.mean([potential(X, plus_plus(points, 80, np.random.default_rng(seed))) for seed in range(5)])
    peer = np.mean([potential(X, kmeans_plusplus(X, 80, random_state=seed)[1]) for seed in range(5)])
    random = np.mean([potential(X, np.random.default_rng(seed).choice(3000, 80, False)) for seed in range(5)])
    assert ours < 1.05 * peer < 0.7 * random


@pytest.mark.filterwarnings("ignore:k-means found")
def test_scalable_is_nearly_as_good():
    rng = np.random.default_rng(0)
    X = (3 * rng.standard_normal((300, 16))[rng.zipf(1.5, 6000) % 300] + rng.standard_normal((6000, 16))).astype("f4")
    inertia = {init: kmeans(X, 400, init=init, n_iter=10).inertia for init in ("k-means++", "random", "scalable")}
    gain = {name: inertia["random"] - inertia[name] for name in inertia}
    assert gain["scalable"] > 0.8 * gain["k-means++"] > 0


def test_rows_are_different_and_small_batches_change_no_property(monkeypatch):
    X = np.random.default_rng(0).standard_normal((500, 3))
    rows = plus_plus(Points(X), 300, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 300
    monkeypatch.setattr(module, "_BATCH", 1)
    assert len(set(plus_plus(Points(X), 300, np.random.default_rng(0)).tolist())) == 300


@pytest.mark.parametrize("offset", [0, 1000.0])
def test_grid_distances_are_exact_integers(offset):
    X = (np.random.default_rng(0).standard_normal((200, 100)) + offset).astype(np.float32)
    points = Points(X)
    grid = FineDistances(points)
    rows = np.array([3, 77])
    values = np.rint(points._cache[0].double().numpy() * grid.unit).astype(np.int64).astype(object)
    expected = ((values[rows][:, None] - values) ** 2).sum(-1).astype(np.float64)
    assert np.array_equal(grid.to_rows(rows), expected)
    true = np.square(X[rows][:, None].astype(float) - X).sum(-1) * (points.scale * grid.unit) ** 2
    np.testing.assert_allclose(expected, true, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 30)), min_size=1, max_size=20), st.data())
def test_shares_to_counts(groups, data):
    share, capacity = (np.array(column, dtype) for column, dtype in zip(zip(*groups), (float, np.int64)))
    filled = int((capacity > 0).sum())
    total = data.draw(st.integers(filled, int(capacity.sum())))
    counts = shares_to_counts(share, capacity, total)
    assert counts.sum() == total and (counts <= capacity).all() and (counts[capacity > 0] >= 1).all()


def test_shares_are_followed():
    assert shares_to_counts(np.array([1.0, 2, 7]), np.array([100, 100, 100]), 100).tolist() == [10, 20, 70]
    assert shares_to_counts(np.array([1.0, 2, 7]), np.array([100, 100, 10]), 40).tolist() == [10, 20, 10]
