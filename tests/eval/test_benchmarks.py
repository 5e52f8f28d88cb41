from pathlib import Path

import hydra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from strata import configs
from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import data_root
from strata.curation.pools.base import Pool
from strata.eval.benchmarks import Benchmark
from strata.eval.protocols.base import Protocol
from strata.eval.protocols.linear import DINOV2_RATES, Linear
from strata.eval.stratify import stratified_sample
from strata.experiments.settings.build import build

ROOT = Path(configs.__path__[0])
NAMES = ["a", "b", "c"]


def load(file):
    return hydra.utils.instantiate(OmegaConf.load(file), _convert_="all")


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=8), share=st.floats(0, 1), seed=st.integers(0, 99),
    leave_one=st.booleans(),
)  # fmt: skip
def test_stratified_sample(counts, share, seed, leave_one):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    size = round(share * len(labels))
    rows = stratified_sample(labels, size, seed, leave_one=leave_one)
    possible = sum(max(c - 1, 0) for c in counts) if leave_one else len(labels)
    assert len(rows) == min(size, possible)
    assert (np.diff(rows) > 0).all()
    taken = np.bincount(labels[rows], minlength=len(counts))
    for n, count in zip(taken, counts):
        assert n <= (max(count - 1, 0) if leave_one else count)
        if not leave_one and len(labels):
            assert abs(n - count * size / len(labels)) < 1
    np.testing.assert_array_equal(rows, stratified_sample(labels, size, seed, leave_one=leave_one))


def test_stratified_sample_is_random_inside_a_class():
    labels = np.repeat([0, 1], 500)
    draws = [stratified_sample(labels, 100, seed) for seed in range(200)]
    drawn = np.bincount(np.concatenate(draws), minlength=1000)
    assert drawn.sum() == 20000
    assert 4 < drawn.min() < 20 < drawn.max() < 40  # Binomial(200, 0.1): mean 20, sd 4.2


def test_limit_train(array_pool):
    train = array_pool([0] * 30 + [1] * 20 + [2] * 10, NAMES, name="toy")
    test = array_pool([0, 1, 2], NAMES)
    limited = Benchmark("toy", train, test, limit_train=12).train
    assert isinstance(limited, Pool)
    assert np.bincount(limited.labels).tolist() == [6, 4, 2]
    assert limited.name == "toy"
    for row in range(12):
        assert limited[row] == train[train.ids.index(limited.ids[row])]
    again = Benchmark("toy", train, test, limit_train=12).train
    assert limited.fingerprint == again.fingerprint
    assert limited.fingerprint != Benchmark("toy", train, test, limit_train=12, seed=1).train.fingerprint
    assert Benchmark("toy", train, test, limit_train=60).train is train


def test_pools_that_do_not_fit(array_pool):
    good = array_pool([0, 1, 2], NAMES)
    for train, test, error, match in (
        (
            good,
            array_pool([0], ["a", "c", "b"]),
            DataError,
            r"benchmark\.test: .*class 1 is 'b' in train and 'c' in test",
        ),
        (good, array_pool([0], NAMES + ["d"]), DataError, r"3 and 4 of them"),
        (array_pool(None, None), good, ConfigError, r"benchmark\.train: .*no labels"),
        (good, array_pool([], NAMES), ConfigError, r"benchmark\.test: .*no items"),
        (good, array_pool([5], NAMES), DataError, r"benchmark\.test: .*outside"),
    ):
        with pytest.raises(error, match=match):
            Benchmark("toy", train, test)
    with pytest.raises(ConfigError, match=r"benchmark\.limit_train"):
        Benchmark("toy", good, good, limit_train=0)
    with pytest.raises(ConfigError, match=r"benchmark\.name"):
        Benchmark("", good, good)


@pytest.mark.parametrize("name", ["digits", "rendered"])
def test_benchmark_configs_without_data(name):
    benchmark = load(ROOT / "benchmark" / f"{name}.yaml")
    assert benchmark.name == name
    assert not set(benchmark.train.ids) & set(benchmark.test.ids)


PUBLISHED = [
    "ade20k", "aircraft", "caltech101_30", "cars", "cifar10", "cifar100", "cityscapes", "cub200", "dollar_street", "dtd",
    "flowers102", "food101", "imagenet", "imagenet_shift", "inat18", "inat21", "kitti", "nyu", "pets", "roxford5k", "rparis6k",
    "sun397", "sunrgbd", "voc2007", "voc2012", "canopy",
]  # fmt: skip
NEED_DATA = sorted({file.stem for file in (ROOT / "benchmark").glob("*.yaml")} - {"digits", "rendered", *PUBLISHED})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_that_are_not_there_say_what_is_expected(name, tmp_path, monkeypatch):
    """Every setting of the file fits its loader, and the first thing that is missing is the data."""
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        build(OmegaConf.to_container(OmegaConf.load(ROOT / "benchmark" / f"{name}.yaml")), f"benchmarks.{name}")
    assert caught.value.field.startswith(f"benchmarks.{name}.")
    assert "not found" in caught.value.problem
    if name not in ("cifar10", "cifar100"):  # pools of the curation side
        assert "STRATA_DATA" in caught.value.fix and ("ROOT" in caught.value.fix or "real.json" in caught.value.fix)


@pytest.mark.data
@pytest.mark.parametrize("name", NEED_DATA)
def test_benchmark_configs_with_data(name):
    if data_root() is None:
        pytest.skip("no data sets: set STRATA_DATA to their folder")
    benchmark = load(ROOT / "benchmark" / f"{name}.yaml")
    assert benchmark.name == name
    if benchmark.task == "classification":
        for split, pool in benchmark.splits.items():
            assert set(np.unique(pool.labels)) <= set(np.unique(benchmark.train.labels)), split
    first, *others = benchmark.splits.values()
    for other in others:
        assert not set(first.ids) & set(other.ids) or first.name != other.name


def test_there_are_data_benchmarks():
    assert {"tinyimagenet_lt", "caltech101", "cifar10_small"} <= set(NEED_DATA)


def test_protocol_configs_are_the_protocols():
    loaded = {file.stem: load(file) for file in (ROOT / "protocol").glob("*.yaml")}
    assert {"knn", "linear", "linear_micro"} <= set(loaded)
    for protocol in loaded.values():
        assert isinstance(protocol, Protocol)
        assert protocol.id
        assert protocol.version >= 1
    assert loaded["linear"] == Linear()  # the file spells out the defaults, which are DINOv2's
    assert loaded["linear"].learning_rates == DINOV2_RATES
    micro = loaded["linear_micro"]
    assert (micro.n_blocks, micro.avgpool) == (loaded["linear"].n_blocks, loaded["linear"].avgpool)
