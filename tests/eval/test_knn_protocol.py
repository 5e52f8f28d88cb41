import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.errors import ConfigError
from strata.eval import nearest, screens
from strata.eval.nearest import nearest_neighbors
from strata.eval.protocols.knn import KNN, vote
from strata.eval.scores import read_scores


def brute_force(train, labels, test, k, temperature, n_classes):
    """One query at a time in float64, by the formula."""
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    found = []
    for query in test:
        similarity = train @ (query / np.linalg.norm(query))
        nearest = np.argsort(-similarity, kind="stable")[:k]
        weights = np.exp(similarity[nearest] / temperature)
        weights /= weights.sum()
        found.append(np.argmax([weights[labels[nearest] == c].sum() for c in range(n_classes)]))
    return np.array(found)


def noisy_classes(seed, n, n_classes=7, d=10):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((n_classes, d))
    labels = rng.integers(0, n_classes, n)
    return (centers[labels] + rng.standard_normal((n, d)) * 1.5).astype(np.float32), labels


def test_equals_brute_force(make_features, tmp_path):
    (train, y), (test, z) = noisy_classes(0, 300), noisy_classes(1, 120)
    path = make_features(train=(train, y), test=(test, z))
    scores = {s.metric: s for s in KNN(k=(1, 5, 50), headline_k=5).run(path, tmp_path / "s", device="cpu")}
    table = pq.read_table(tmp_path / "s" / "predictions.parquet").to_pydict()
    for k in (1, 5, 50):
        expected = brute_force(train.astype(np.float64), y, test.astype(np.float64), k, 0.07, 7)
        np.testing.assert_array_equal(table[f"prediction_k{k}"], expected)
        assert scores[f"top1_k{k}"].value == pytest.approx(np.mean(expected == z), abs=1e-12)
        assert 0.2 < scores[f"top1_k{k}"].value < 0.95  # neither chance nor trivial: the comparison means something
    assert table["prediction"] == table["prediction_k5"]
    assert scores["top1"].value == scores["top1_k5"].value
    assert scores["top1"].details["k"] == 5
    assert scores["mean_per_class"].value == pytest.approx(
        np.mean([np.mean(np.array(table["prediction"])[z == c] == c) for c in range(7)])
    )
    assert read_scores(tmp_path / "s") == list(scores.values())


def test_by_hand():
    """Cosines .9, .8, .6 with labels 0, 1, 1: at T=1 class 1 outvotes class 0, at T=.05 the nearest one wins."""
    similarity, labels = torch.tensor([[0.9, 0.8, 0.6]]), torch.tensor([[0, 1, 1]])
    assert vote(similarity, labels, 2, 1.0, [3])[3].item() == 1  # e^.9 = 2.46 < e^.8 + e^.6 = 4.05
    assert vote(similarity, labels, 2, 0.05, [3])[3].item() == 0  # e^18 > e^16 + e^12
    assert vote(similarity, labels, 2, 1.0, [1])[1].item() == 0
    # equal weights: 1 vote each, the lower class id wins
    assert vote(torch.tensor([[0.5, 0.5]]), torch.tensor([[1, 0]]), 2, 0.07, [2])[2].item() == 0


def test_reads_the_class_token_of_the_last_block(make_features, tmp_path):
    cls = np.zeros((2, 2, 2), np.float32)
    cls[:, 1] = [[1, 0], [0, 1]]  # last block: item 0 along x, item 1 along y
    cls[:, 0] = cls[::-1, 1]  # first block: the other way round
    path = make_features(train=(cls, [0, 1]), test=(cls, [0, 1]))
    assert KNN(k=[1], headline_k=1).run(path, tmp_path / "s", device="cpu")[0].value == 1.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), q=st.integers(1, 9), m=st.integers(1, 40), data=st.data())
def test_tiling_never_matters(seed, q, m, data):
    k = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    scale = data.draw(st.sampled_from([2, 1000]))  # 2: coordinates in {-1, 0, 1}, so ties and zero rows abound
    keys = np.round(rng.uniform(-1, 1, (m, 3)) * scale / 2).astype(np.float32)
    queries = np.round(rng.uniform(-1, 1, (q, 3)) * scale / 2).astype(np.float32)
    similarity, rows = nearest_neighbors(queries, keys, k, query_rows=64, key_rows=64)
    tiles = {"query_rows": data.draw(st.integers(1, 9)), "key_rows": data.draw(st.integers(1, 40))}
    other_similarity, other_rows = nearest_neighbors(queries, keys, k, **tiles)
    assert torch.equal(similarity, other_similarity)
    assert torch.equal(rows, other_rows)
    for row_similarity, row in zip(similarity.tolist(), rows.tolist(), strict=True):
        pairs = list(zip([-s for s in row_similarity], row, strict=True))
        assert pairs == sorted(pairs)  # by similarity, equals by row
        assert len(set(row)) == k


def test_neighbors_of_large_float32_features_are_exact_over_tiles():
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((700, 96)).astype(np.float32)
    keys[350:] = keys[:350]  # every key twice
    queries = rng.standard_normal((50, 96)).astype(np.float32)
    similarity, rows = nearest_neighbors(queries, keys, 20)
    for tiles in ((7, 33), (50, 1), (1, 700)):
        other = nearest_neighbors(queries, keys, 20, query_rows=tiles[0], key_rows=tiles[1])
        assert torch.equal(other[0], similarity)
        assert torch.equal(other[1], rows)
    assert (rows[:, 0::2] + 350 == rows[:, 1::2]).all()  # copies stand together, the first one first
    exact = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float64) @ (
        keys / np.linalg.norm(keys, axis=1, keepdims=True)
    ).astype(np.float64).T
    np.testing.assert_allclose(similarity, -np.sort(-exact, axis=1)[:, :20], atol=1e-6)


def test_collapsed_features_take_the_first_rows():
    similarity, rows = nearest_neighbors(np.ones((3, 4)), np.ones((50, 4)), 5, key_rows=8)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 3
    np.testing.assert_allclose(similarity, 1, atol=1e-7)


def test_k_above_the_training_set(make_features, tmp_path):
    (train, y), (test, z) = noisy_classes(0, 30), noisy_classes(1, 20)
    path = make_features(train=(train, y), test=(test, z))
    scores = KNN(k=(10, 20, 30, 31, 100), headline_k=20).run(path, tmp_path / "s", device="cpu")
    assert [s.metric for s in scores if s.metric.startswith("top1")] == ["top1", "top1_k10", "top1_k20", "top1_k30"]
    assert scores[0].details["k_dropped"] == {"k": [31, 100], "reason": "more than the 30 training images"}
    with pytest.raises(ConfigError, match=r"protocol\.headline_k: 100 neighbors, but train has only 30"):
        KNN(k=(10, 100), headline_k=100).run(path, tmp_path / "t", device="cpu")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"k": []}, "k"),
        ({"k": [0, 20]}, "k"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"k": [10], "headline_k": 20}, "headline_k"),
    ],
)
def test_bad_options(options, field):
    with pytest.raises(ConfigError) as caught:
        KNN(**options)
    assert caught.value.field == f"protocol.{field}"


def test_repeats_to_the_byte(make_features, tmp_path):
    path = make_features(train=noisy_classes(0, 60), test=noisy_classes(1, 30))
    for name in "ab":
        KNN().run(path, tmp_path / name, device="cpu")
    for file in ("scores.json", "predictions.parquet", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("case", ["spread", "near", "copies", "collapsed", "small"])
@pytest.mark.parametrize("low", [False, True])
def test_cheap_products_never_lose_a_neighbor(case, low, monkeypatch):
    """Against float64 similarities of all pairs, also where the bounds leave much open: near-equal and equal keys."""
    monkeypatch.setattr(screens, "has_bfloat16", lambda: low)
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((3000, 48)).astype(np.float32)
    if case == "near":
        keys = keys[:1] + 1e-3 * keys  # cosines differ by 1e-6
    elif case == "copies":
        keys[1000:] = np.tile(keys[:1000], (2, 1))
    elif case == "collapsed":
        keys[:] = 1.0
    elif case == "small":
        keys *= 1e-20
    queries = (keys[:40] + 0.3 * rng.standard_normal((40, 48)) * np.abs(keys).mean()).astype(np.float32)
    similarity, rows = nearest_neighbors(queries, keys, 30)
    q, k = (nearest._unit(x, "cpu").double().numpy() for x in (queries, keys))
    exact = q @ k.T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :30]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(similarity, np.take_along_axis(exact, expected, axis=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bound_of_a_screen_holds(dtype):
    rng = np.random.default_rng(0)
    keys, queries = (nearest._unit(rng.standard_normal((m, 300)) + 0.5, "cpu") for m in (2000, 50))
    screen = screens.LowScreen(keys, 50, spare=8) if dtype == torch.bfloat16 else screens.Screen(keys, spare=8)
    columns, bound = screen.candidates(queries, keys, 12)
    exact = queries.double() @ keys.double().T
    others = exact.scatter(1, columns, -torch.inf).amax(dim=1)
    assert (others <= bound).all()
    assert columns.shape == (50, 20)
    assert (columns.diff(dim=1) > 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), q=st.integers(1, 4), m=st.integers(40, 400), k=st.integers(1, 30), low=st.booleans())
def test_top_by_groups_is_topk(seed, q, m, k, low):
    values = torch.randn(q, m, generator=torch.Generator().manual_seed(seed))
    values = values.bfloat16() if low else values
    found, columns = screens.top_by_groups(values, k)
    expected = values.float().sort(dim=1, descending=True).values[:, :k]
    assert torch.equal(found.sort(dim=1, descending=True).values, expected)
    assert torch.equal(values.float().gather(1, columns), found)
    assert all(len(set(row)) == k for row in columns.tolist())
