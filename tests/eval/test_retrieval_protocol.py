"""Retrieval: the arithmetic of revisited Oxford, by hand and by a plain restatement of its steps."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.artifact import create_artifact
from strata.curation.errors import ConfigError, DataError
from strata.eval.benchmarks import RetrievalBenchmark
from strata.eval.extract import _write_items
from strata.eval.protocols.retrieval import Retrieval, average_precision
from strata.eval.retrieval_pools import by_label
from strata.eval.similarity import rank_all


def by_steps(ranked, positive, junk):
    """As the official evaluation tells it: walk down the ranking, junk does not move the counter."""
    place, found, area = 0, 0, 0.0
    for image in ranked:
        if image in junk:
            continue
        if image in positive:
            before = 1.0 if place == 0 else found / place
            found += 1
            area += (before + found / (place + 1)) / 2 / len(positive)
        place += 1
    return area


def test_by_hand_with_junk():
    # ranking: junk, right, wrong, right, junk, wrong, right -> without junk: right at 0, 2 and 4
    ranked, positive, junk = np.array([9, 1, 5, 2, 8, 6, 3]), np.array([1, 2, 3]), np.array([8, 9])
    expected = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 3
    assert average_precision(ranked, positive, junk) == pytest.approx(expected)
    assert average_precision(ranked, np.array([4]), junk) == 0.0  # not among what was ranked
    assert np.isnan(average_precision(ranked, np.array([], int), junk))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 40), p=st.integers(1, 20), j=st.integers(0, 20))
def test_equals_the_steps(seed, n, p, j):
    rng = np.random.default_rng(seed)
    ranked, mixed = rng.permutation(n), rng.permutation(n)
    positive, junk = mixed[:p], mixed[p : p + j]
    found = average_precision(ranked, positive, junk)
    assert found == pytest.approx(by_steps(ranked.tolist(), set(positive.tolist()), set(junk.tolist())))
    assert 0 <= found <= 1


def test_ranks_are_those_of_cosine_with_ties_in_row_order():
    rng = np.random.default_rng(0)
    queries, database = rng.standard_normal((20, 5)), rng.standard_normal((300, 5))
    database[7] = database[3] * 2
    similarity = (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (
        database / np.linalg.norm(database, axis=1)[:, None]
    ).T
    for row, ranked in enumerate(rank_all(queries.astype(np.float32), database.astype(np.float32))):
        assert np.diff(similarity[row][ranked]).max() < 1e-6
        places = np.argsort(ranked)
        assert places[7] == places[3] + 1


@pytest.fixture
def landmark_features(tmp_path, array_pool):
    """Six database images on a line of angles; two queries."""

    def make(extra, name="f"):
        angles = {"database": np.radians([0, 10, 20, 30, 40, 50]), "queries": np.radians([1.0, 49.0])}
        splits = {}
        with create_artifact(tmp_path / name, "features") as draft:
            for split, at in angles.items():
                folder = draft.path / split
                folder.mkdir()
                tokens = np.stack([np.cos(at), np.sin(at)], axis=1)[:, None]
                np.save(folder / "cls.npy", tokens)
                np.save(folder / "avg.npy", -tokens)
                pool = array_pool([0] * len(at), ["x"], name=split)
                pool.extra = extra if split == "queries" else {}
                _write_items(folder, pool)
                splits[split] = {"n": len(at), "pool": {"name": split}}
            draft.meta.update(splits=splits, label_names=["x"], backbone={"name": "none"})
        return tmp_path / name

    return make


def test_easy_medium_and_hard(landmark_features, tmp_path):
    """Query 0 ranks 0 1 2 3 4 5, query 1 ranks 5 4 3 2 1 0."""
    extra = {"easy": [[1], [4]], "hard": [[3], []], "junk": [[0], [5]]}
    found = {
        s.metric: s for s in Retrieval().run(landmark_features(extra), tmp_path / "s", device="cpu", benchmark="b")
    }
    easy = [1.0, 1.0]  # 0 junk, 1 right; 5 junk, 4 right
    medium = [(1.0 + (1 / 2 + 2 / 3) / 2) / 2, 1.0]  # without 0: right at 0 and 2
    hard = [(0 / 1 + 1 / 2) / 2]  # without 0 and 1: 2 3 4 5, right at 1; query 1 has none and does not count
    for metric, expected in (("map_easy", easy), ("map_medium", medium), ("map_hard", hard)):
        assert found[metric].value == pytest.approx(np.mean(expected)), metric
        assert found[metric].n == len(expected)
        assert found[metric].ci_low <= found[metric].value <= found[metric].ci_high
    table = pq.read_table(tmp_path / "s" / "predictions.parquet").to_pydict()
    assert table["nearest"] == ["database-0", "database-5"]
    assert table["ap_medium"] == pytest.approx(medium) and table["has_hard"] == [True, False]


def test_tokens_and_bad_input(landmark_features, tmp_path):
    extra = {"easy": [[1], [4]], "hard": [[], []], "junk": [[0], [5]]}
    path = landmark_features(extra)
    metrics = [s.metric for s in Retrieval(token="both").run(path, tmp_path / "s", device="cpu", benchmark="b")]
    assert metrics == ["map_easy", "map_medium"]  # nothing is hard
    with pytest.raises(ConfigError, match=r"protocol\.token"):
        Retrieval(token="mean")
    outside = landmark_features(extra | {"hard": [[6], []]}, "outside")
    with pytest.raises(DataError, match="hard rows outside the database of 6"):
        Retrieval().run(outside, tmp_path / "t", device="cpu", benchmark="b")
    nothing = landmark_features({"easy": [[], []], "hard": [[], []], "junk": [[0], [1]]}, "nothing")
    with pytest.raises(DataError, match="anything to find"):
        Retrieval().run(nothing, tmp_path / "t", device="cpu", benchmark="b")
    lacking = landmark_features({"easy": [[1], [1]], "hard": [[], []]}, "lacking")
    with pytest.raises(DataError, match="no column 'junk'"):
        Retrieval().run(lacking, tmp_path / "t", device="cpu", benchmark="b")
    assert not list(tmp_path.glob("t*"))


def test_retrieval_out_of_labels(array_pool):
    queries, database = (
        array_pool([0, 1, 2, 1], ["a", "b", "c"], name="q"),
        array_pool([1, 0, 1, 0], ["a", "b", "c"], seed=3),
    )
    queries.column = lambda name: np.array([0, 0, 1, 1])
    database.column = lambda name: np.array([0, 0, 1, 1])
    benchmark = RetrievalBenchmark("r", by_label(queries, database, hard_where_differs="style"))
    extra = benchmark.splits["queries"].extra
    assert extra == {"easy": [[1], [0], [], [2]], "hard": [[3], [2], [], [0]], "junk": [[], [], [], []]}
    assert benchmark.task == "retrieval" and len(benchmark.splits["database"]) == 4
    assert len(by_label(queries, database, limit=2)[0]) == 2
    assert (
        by_label(queries, database)[0].fingerprint != by_label(queries, array_pool([0], ["a", "b", "c"]))[0].fingerprint
    )
    with pytest.raises(ConfigError, match="has no columns"):
        by_label(array_pool([0], ["a", "b", "c"]), database, hard_where_differs="style")
    with pytest.raises(ConfigError, match="does not say which images are easy"):
        RetrievalBenchmark("r", (queries, database))
