import numpy as np
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.curation.neighbors import Neighbors, nearest_others, unit_rows

RNG = np.random.default_rng(0)


def brute(X, metric):
    """All distances, by differences of float64 rows."""
    X = np.asarray(X, np.float64)
    if metric == "cosine":
        return np.array([[1 - a @ b / np.sqrt((a @ a) * (b @ b)) for b in X] for a in X])
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in X] for a in X])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_nearest_others_are_those_of_brute_force(metric, offset):
    X = (RNG.normal(size=(80, 5)) + offset).astype(np.float32)
    X[1] = X[0]  # of equal rows the row itself is left out, not its copy
    expected = brute(X, metric)
    np.fill_diagonal(expected, np.inf)
    found = nearest_others(Neighbors(X, metric), 4)
    assert np.allclose(found, np.sort(expected, 1)[:, :4], rtol=1e-5, atol=1e-12) and found[0, 0] == 0 == found[1, 0]


def test_many_equal_rows_are_zero_apart():
    X = np.repeat(RNG.normal(size=(3, 4)), 9, axis=0)
    assert (nearest_others(Neighbors(X), 5) == 0).all()


def test_search_ranks_and_breaks_ties_by_row():
    X = RNG.normal(size=(50, 6))
    X[[7, 20, 33]] = X[3]
    distance, rows = Neighbors(X).search(X[3:4], 50)
    assert rows[0, :4].tolist() == [3, 7, 20, 33] and sorted(rows[0]) == list(range(50))
    assert (np.diff(distance[0]) >= 0).all() and (distance[0, :4] == 0).all()


def test_an_inverted_file_is_chosen_by_size_and_finds_nearly_all():
    centers = RNG.normal(size=(200, 16))
    X = (centers[RNG.integers(0, 200, 20_000)] + 0.3 * RNG.normal(size=(20_000, 16))).astype(np.float32)
    exact, rough = Neighbors(X, index="exact"), Neighbors(X, index="ivf")
    assert exact.exact and not rough.exact and Neighbors(X).exact
    true, found = exact.search(X[:500], 10)[1], rough.search(X[:500], 10)[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, found)])
    assert recall > 0.9
    assert np.array_equal(rough.search(X[:20], 10, everywhere=True)[1], true[:20])
    assert np.array_equal(Neighbors(X, index="ivf").search(X[:500], 10)[1], found), "training is seeded"


def test_an_inverted_file_looks_further_where_its_cells_hold_too_few():
    X = RNG.normal(size=(1200, 8)).astype(np.float32)
    found = nearest_others(Neighbors(X, index="ivf"), 400)
    assert np.isfinite(found).all() and (np.diff(found, axis=1) >= 0).all()


def test_bad_input():
    with pytest.raises(ConfigError, match=r"sampler\.metric"):
        Neighbors(np.ones((3, 2)), "manhattan")
    with pytest.raises(ConfigError, match=r"sampler\.index"):
        Neighbors(np.ones((3, 2)), index="tree")
    X = np.ones((3, 2))
    X[2] = 0
    with pytest.raises(DataError, match="row 2"):
        Neighbors(X)
    X[1, 0] = np.nan
    with pytest.raises(DataError, match="row 1"):
        Neighbors(X, "euclidean")
    assert np.allclose(unit_rows(np.array([[3.0, 4.0]])), [[0.6, 0.8]])
