"""metadata_cap, retrieval, density and SemDeDup against brute force written another way."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation import Hierarchy
from strata.curation.errors import ConfigError
from strata.curation.kmeans.source import as_source
from strata.curation.samplers.density import InverseDensity, mean_distance
from strata.curation.samplers.matching import match_labels, match_tags, match_words
from strata.curation.samplers.metadata_cap import MetadataCap, capped, find_cap
from strata.curation.samplers.retrieval import Retrieval, seed_rows
from strata.curation.samplers.semdedup import SemDeDup, duplicate_scores

RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 6)).astype(np.float32)
X[60:90] = X[:30] + 0.05 * X[30:60]  # near copies
LABELS = np.repeat([0, 1, 2, -1], [70, 30, 8, 12])
CLUSTER = np.arange(N) % 7
TREE = Hierarchy.from_assignments([CLUSTER, [0, 0, 0, 1, 1, 1, 1]])
SEEDS = RNG.normal(size=(5, 6))
GIVEN = {"hierarchy": TREE, "labels": LABELS, "embeddings": X, "seeds": SEEDS}


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def select(sampler, n, seed=0, **given):
    return sampler.select(n, size=N, random_state=seed, **(GIVEN | given))


SAMPLERS = [
    MetadataCap(),
    Retrieval(),
    Retrieval(seeds_per_label=3),
    InverseDensity(k=4),
    InverseDensity(k=4, metric="euclidean", power=3),
    SemDeDup(),
    SemDeDup(threshold=0.99),
    SemDeDup(fraction=0.9, level=1, keep="closest"),
    SemDeDup(threshold=0.99, against="kept"),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_exact_size_no_repeats_same_again(sampler):
    for n in (0, 1, 40, 77):
        chosen = select(sampler, n)
        assert len(chosen) == len(chosen.rows) == n and (chosen.repeats == 1).all()
        assert np.array_equal(select(sampler, n).rows, chosen.rows)
    for n in (N + 1, -1, None):
        with pytest.raises(ConfigError) as error:
            select(sampler, n)
        assert error.value.field == "sample.size"
    for need in sampler.needs:
        with pytest.raises(ConfigError):
            select(sampler, 10, **{need: None})
    if "embeddings" in sampler.needs:
        with pytest.raises(ConfigError, match="for a pool of"):
            select(sampler, 10, embeddings=X[:50])


@pytest.mark.parametrize(
    "sampler",
    [s for s in SAMPLERS if not (isinstance(s, SemDeDup) and s.threshold is None and s.fraction is None)],
    ids=repr,
)
def test_the_seed_decides(sampler):
    assert not np.array_equal(select(sampler, 43).rows, select(sampler, 43, seed=1).rows)


# metadata_cap


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=3), min_size=1, max_size=30), st.data())
def test_cap_gives_the_size_in_expectation_by_metaclips_formula(tags, data):
    matches = match_tags(tags)
    matching = [set(own) for own in tags if own]
    n = data.draw(st.integers(0, len(matching)))
    cap = find_cap(matches, len(tags), n)
    count = {tag: sum(tag in own for own in matching) for tag in "abcde"}
    expected = [1 - np.prod([1 - min(1, cap / count[tag]) for tag in set(own)]) if own else 0.0 for own in tags]
    assert np.allclose(capped(matches, len(tags), cap), expected, atol=1e-12)
    assert sum(expected) == pytest.approx(n, abs=1e-6)
    chosen = MetadataCap("tags").select(n, size=len(tags), random_state=0, metadata=tags)
    assert len(chosen.rows) == n and all(tags[row] for row in chosen.rows)


def test_cap_is_kept_by_every_label():
    chosen = select(MetadataCap(), 46)  # t = 19: 19 + 19 + 8
    assert find_cap(match_labels(LABELS), N, 46) == pytest.approx(19)
    assert np.bincount(LABELS[chosen.rows]).tolist() == [19, 19, 8]
    counts = np.bincount(LABELS[select(MetadataCap(), 47).rows])
    assert counts[2] == 8 and sorted(counts[:2]) == [19, 20]
    with pytest.raises(ConfigError, match="match"):
        select(MetadataCap(), 109)
    with pytest.raises(ConfigError, match="labels"):
        select(MetadataCap(), 3, labels=np.full(N, -1))


def test_tags_and_words():
    found = match_tags(["a", None, "", -1, 3, ["b", "a", "a"], np.array(["b", "c"]), float("nan")])
    assert list(zip(found.item, found.entry)) == [(0, 0), (4, 1), (5, 0), (5, 2), (6, 2), (6, 3)]
    assert found.n_entries == 4
    texts = ["A Hot-Dog, please", "dog", "hotdog", None, "the dog is hot", "hot dog dog"]
    found = match_words(texts, ["hot dog", "DOG"])
    assert list(zip(found.item, found.entry)) == [(0, 0), (0, 1), (1, 1), (4, 1), (5, 0), (5, 1)]
    for entries in ([], ["a", "A"], ["--"]):
        with pytest.raises(ConfigError, match=r"sampler\.entries"):
            match_words(texts, entries)
    with pytest.raises(ConfigError, match="no text"):
        match_words([3], ["a"])
    with pytest.raises(ConfigError, match="no tag"):
        match_tags([2.5])
    with pytest.raises(ConfigError, match="column"):
        MetadataCap(entries=["a"])
    for metadata in (None, ["a"] * 3):
        with pytest.raises(ConfigError, match="metadata"):
            MetadataCap("tags").select(1, size=N, random_state=0, metadata=metadata)


# retrieval


def round_robin_by_hand(order, own, n):
    """Each seed in turn takes its nearest free row: all similarities, sorted, no index."""
    ranked = {
        s: sorted(range(N), key=lambda r: (-round(cosine(SEEDS[s] if own is None else X[own[s]], X[r]), 12), r))
        for s in order
    }
    taken: list[int] = []
    while len(taken) < n:
        for s in order:
            free = [r for r in ranked[s] if r not in taken and (own is None or r != own[s])]
            if free and len(taken) < n:
                taken.append(free[0])
    return sorted(taken)


@pytest.mark.parametrize("n", [1, 3, 5, 17, 100, N])
def test_retrieval_is_round_robin(n):
    order = np.random.default_rng(3).permutation(5)[:n].tolist()
    assert select(Retrieval(), n, seed=3).rows.tolist() == round_robin_by_hand(order, None, n)


@pytest.mark.parametrize("n", [7, 60, N])
def test_a_seed_of_the_pool_does_not_retrieve_itself(n):
    own = seed_rows(LABELS, 2, 3)
    assert np.bincount(LABELS[own]).tolist() == [2, 2, 2]
    order = np.random.default_rng(3).permutation(6)[:n].tolist()
    found = select(Retrieval(seeds_per_label=2), n, seed=3).rows.tolist()
    assert found == round_robin_by_hand(order, own.tolist(), n)


def test_one_seed_never_gets_itself():
    labels = np.full(N, -1)
    labels[17] = 0
    found = select(Retrieval(seeds_per_label=4), N - 1, labels=labels).rows
    assert found.tolist() == [row for row in range(N) if row != 17]
    with pytest.raises(ConfigError, match="retrieve"):
        select(Retrieval(seeds_per_label=4), N, labels=labels)


def test_an_inverted_file_retrieves_the_last_row_too():
    X = RNG.normal(size=(1500, 8)).astype(np.float32)
    chosen = Retrieval(index="ivf").select(1500, size=1500, random_state=0, embeddings=X, seeds=X[:2])
    assert len(chosen.rows) == 1500


def test_seeds_by_another_encoder():
    with pytest.raises(ConfigError, match=r"references\.seeds"):
        select(Retrieval(), 3, seeds=np.ones((2, 5)))


# density


def test_density_by_brute_force():
    apart = np.array([[1 - cosine(a, b) for b in X.astype(float)] for a in X.astype(float)])
    np.fill_diagonal(apart, np.inf)
    expected = np.sort(apart, 1)[:, :4].mean(1)
    found = mean_distance(as_source(X), 4, "cosine", "auto")
    assert np.allclose(found, expected, rtol=1e-6)
    shuffled = RNG.permutation(N)
    assert np.allclose(mean_distance(as_source(X[shuffled]), 4, "cosine", "auto"), expected[shuffled], rtol=1e-6)
    rare, common = np.argsort(-expected)[:40], np.argsort(expected)[:40]
    seen = sum(np.bincount(select(InverseDensity(k=4), 30, seed=s).rows, minlength=N) for s in range(50))
    assert seen[rare].sum() > 2 * seen[common].sum()
    assert abs(seen.sum() - 1500) == 0


def test_copies_come_last_in_density():
    few = X.copy()
    few[:50] = few[0]  # 50 equal rows
    chosen = select(InverseDensity(k=4), 75, embeddings=few).rows
    assert (chosen >= 50).sum() == 70 and len(chosen) == 75
    with pytest.raises(ConfigError, match=r"sampler\.k"):
        select(InverseDensity(k=N), 3)
    for bad in ({"k": 0}, {"power": -1}, {"metric": "l1"}):
        with pytest.raises(ConfigError):
            InverseDensity(**bad)


# SemDeDup


def scores_by_hand(labels, keep, limit=None):
    """The paper's loop, one pair at a time."""
    rows64 = X.astype(np.float64)
    score = np.full(N, -1.0)
    for label in set(labels.tolist()):
        rows = [r for r in range(N) if labels[r] == label]
        unit = {r: rows64[r] / np.sqrt(rows64[r] @ rows64[r]) for r in rows}
        center = sum(unit.values())
        sign = 1 if keep == "farthest" else -1
        order = sorted(rows, key=lambda r: (sign * round(cosine(unit[r], center), 9), r))
        gone = set()
        for i, row in enumerate(order):
            before = [cosine(unit[row], unit[r]) for r in order[:i] if r not in gone]
            if before:
                score[row] = max(before)
            if limit is not None and score[row] > limit:
                gone.add(row)
    return score


@pytest.mark.parametrize(
    ("level", "keep", "limit"), itertools.product([1, 2], ["farthest", "closest"], [None, 0.3, 0.9])
)
def test_scores_are_those_of_the_pairwise_loop(level, keep, limit, monkeypatch):
    monkeypatch.setattr("strata.curation.samplers.semdedup.TILE", 8)  # several tiles a cluster
    monkeypatch.setattr("strata.curation.samplers.semdedup.BATCH", 40)
    labels = TREE.labels(level)
    expected = scores_by_hand(labels, keep, limit)
    score, match = duplicate_scores(as_source(X), labels, keep, limit)
    assert np.allclose(score, expected, atol=2e-9)
    for row in np.flatnonzero(score > -1):
        assert labels[match[row]] == labels[row] and cosine(
            X[row].astype(float), X[match[row]].astype(float)
        ) == pytest.approx(score[row], abs=1e-8)
    if limit is not None:
        dropped = score > limit
        assert not dropped[match[dropped]].any(), "what is dropped is like something that stays"


def test_semdedup_by_size_threshold_and_fraction():
    score, _ = duplicate_scores(as_source(X), TREE.labels(2), "farthest")
    chosen = select(SemDeDup(), 50)
    assert score[chosen.rows].max() <= np.delete(score, chosen.rows).min(), "the least alike stay"
    report = chosen.reports["dropped_semdedup"].to_pydict()
    assert report["row"] == sorted(set(range(N)) - set(chosen.rows.tolist()))
    assert np.allclose(report["similarity"], score[report["row"]])
    kept = SemDeDup(threshold=0.9).filter(size=N, random_state=0, **GIVEN)
    assert kept.rows.tolist() == np.flatnonzero(score <= 0.9).tolist() and 0 < len(kept.rows) < N
    assert set(select(SemDeDup(threshold=0.9), len(kept.rows)).rows) == set(kept.rows)
    with pytest.raises(ConfigError, match="duplicates"):
        select(SemDeDup(threshold=0.9), len(kept.rows) + 1)
    assert len(SemDeDup(fraction=0.55).filter(size=N, random_state=0, **GIVEN).rows) == 66
    with pytest.raises(ConfigError, match="threshold or fraction"):
        SemDeDup().filter(size=N, random_state=0, **GIVEN)
    with pytest.raises(ConfigError, match="level"):
        select(SemDeDup(level=3), 3)
    for bad in (
        {"threshold": 1.5},
        {"fraction": 0},
        {"threshold": 0.5, "fraction": 0.5},
        {"keep": "x"},
        {"against": "kept"},
    ):
        with pytest.raises(ConfigError):
            SemDeDup(**bad)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_renumbering_the_rows_renumbers_the_selection(seed):
    order = np.random.default_rng(seed).permutation(N)
    distinct = X + 0.1 * np.random.default_rng(5).normal(size=X.shape)
    tree = Hierarchy.from_assignments([CLUSTER[order], TREE.levels[1].assignment])
    for sampler in (SemDeDup(), SemDeDup(keep="closest", level=1), Retrieval()):
        plain = select(sampler, 50, embeddings=distinct).rows
        moved = select(sampler, 50, embeddings=distinct[order], hierarchy=tree).rows
        assert sorted(order[moved].tolist()) == plain.tolist()


@pytest.mark.parametrize(
    "sampler", [MetadataCap(), SemDeDup(), Retrieval(seeds_per_label=1), Retrieval()], ids=lambda s: type(s).__name__
)
def test_200_000_rows_in_seconds(sampler):
    rng = np.random.default_rng(0)
    n, k = 200_000, 1000
    labels = rng.choice(k, n, p=(w := 1 / np.arange(1, k + 1) ** 0.7) / w.sum())
    rows = (rng.normal(size=(k, 64))[labels] + 0.4 * rng.normal(size=(n, 64))).astype(np.float32)
    tree = Hierarchy.from_assignments([labels])
    start = time.process_time()
    chosen = sampler.select(
        20_000, size=n, random_state=0, hierarchy=tree, labels=labels, embeddings=rows, seeds=rows[:2000] + 0.1
    )
    assert len(chosen.rows) == 20_000
    assert time.process_time() - start < 20, "CPU seconds; some 1 to 5 measured"


@pytest.mark.slow
def test_density_of_200_000_rows():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(1000, 64))[rng.integers(0, 1000, 200_000)] + 0.4 * rng.normal(size=(200_000, 64))).astype(
        "f4"
    )
    start = time.process_time()
    chosen = InverseDensity().select(20_000, size=200_000, random_state=0, embeddings=rows)
    assert len(chosen.rows) == 20_000 and time.process_time() - start < 60
