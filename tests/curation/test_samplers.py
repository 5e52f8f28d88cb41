import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from strata.curation import HierarchicalKMeans, Hierarchy
from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchical_kmeans import check_levels
from strata.curation.samplers.all import AllRows
from strata.curation.samplers.hierarchical import HierarchicalRows
from strata.curation.samplers.label_balanced import LabelBalanced
from strata.curation.samplers.random import RandomRows
from strata.curation.subset import Selection, read_subset, write_subset

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = np.array([0] * 50 + [1] * 20 + [2] * 5 + [-1] * 25)


def tree():
    rng = np.random.default_rng(0)
    return Hierarchy.from_assignments(
        [rng.integers(0, 20, 100), np.arange(20) % 4], distances=[rng.random(100), rng.random(20)]
    )


def select(sampler, n, **given):
    return sampler.select(n, **({"size": 100, "random_state": 0, "hierarchy": tree(), "labels": LABELS} | given))


@pytest.mark.parametrize(
    "sampler", [RandomRows(), LabelBalanced(), HierarchicalRows(), HierarchicalRows("flat", "closest")]
)
def test_exactly_n_different_rows_and_the_seed_decides(sampler):
    selection = select(sampler, 30)
    assert len(selection) == len(selection.rows) == 30 and (selection.repeats == 1).all()
    assert selection.rows.dtype == np.int64 and selection.repeats.dtype == np.int32
    assert selection.weight.dtype == np.float64 and selection.weight.sum() == pytest.approx(1)
    assert np.array_equal(select(sampler, 30).rows, selection.rows)
    assert not np.array_equal(select(sampler, 30, random_state=1).rows, selection.rows)
    assert len(select(sampler, 0).rows) == 0
    for n in (101, -1, None):
        with pytest.raises(ConfigError) as error:
            select(sampler, n)
        assert error.value.field == "sample.size"


def test_all_rows_ignores_the_number():
    assert select(AllRows(), None).rows.tolist() == select(AllRows(), 3).rows.tolist() == list(range(100))


def test_random_rows_are_uniform():
    seen = sum(np.bincount(select(RandomRows(), 20, random_state=s).rows, minlength=100) for s in range(1000))
    assert abs(seen / 1000 - 0.2).max() < 0.06


def test_label_balanced_fills_classes_evenly():
    counts = np.bincount(LABELS[select(LabelBalanced(), 30).rows])
    assert counts[2] == 5 and sorted(counts[:2]) == [12, 13]
    assert (LABELS[select(LabelBalanced(), 75).rows] >= 0).all()
    with pytest.raises(ConfigError, match="labelled"):
        select(LabelBalanced(), 76)
    for labels in (None, np.full(100, -1)):
        with pytest.raises(ConfigError, match="needs labels"):
            select(LabelBalanced(), 3, labels=labels)
    with pytest.raises(ConfigError, match="pool"):
        select(LabelBalanced(), 3, labels=LABELS[:50])


def test_hierarchical_rows_are_those_of_the_hierarchy():
    for options in ({}, {"allocation": "flat"}, {"within": "furthest"}, {"max_repeats": 2}):
        n = 150 if "max_repeats" in options else 30
        selection = select(HierarchicalRows(**options), n, random_state=5)
        assert np.array_equal(selection.indices, tree().sample(n, **options, random_state=5))
    assert selection.repeats.max() == 2 and selection.weight.max() == pytest.approx(2 / 150)
    with pytest.raises(ConfigError, match="needs a hierarchy"):
        select(HierarchicalRows(), 3, hierarchy=None)
    with pytest.raises(ConfigError, match="pool"):
        select(HierarchicalRows(), 3, size=99)


def test_what_samplers_need():
    assert AllRows.needs == RandomRows.needs == frozenset()
    assert LabelBalanced.needs == {"labels"} and HierarchicalRows().needs == {"hierarchy"}
    assert not AllRows.sized and RandomRows.sized and LabelBalanced.sized and HierarchicalRows.sized


@pytest.mark.parametrize("name", ["all", "random", "label_balanced", "hierarchical"])
def test_sampler_configs(name):
    config = OmegaConf.load(CONFIGS / "sampler" / f"{name}.yaml")
    assert len(select(instantiate(config), 30)) in (30, 100)


HIERARCHIES = sorted(
    file for file in (CONFIGS / "hierarchy").glob("*.yaml") if file.stem != "auto"
)  # has no levels yet


@pytest.mark.parametrize("file", HIERARCHIES, ids=lambda file: file.stem)
def test_hierarchy_configs(file):
    config = OmegaConf.load(file)
    params = OmegaConf.to_container(config)
    model = HierarchicalKMeans(**params)
    assert set(params) <= set(model.get_params()) and "_target_" not in params
    check_levels(config["n_clusters"], 18_000_000, params["n_splits"])  # the smallest paper pool
    assert len(model._plan(18_000_000)) == len(params["n_clusters"])


def test_paper_web_has_the_papers_numbers():
    params = OmegaConf.to_container(OmegaConf.load(CONFIGS / "hierarchy" / "paper_web.yaml"))
    assert [k * s for k, s in zip(params["n_clusters"], params["n_splits"])] == [10_000_000, 500_000, 50_000, 10_000]
    assert params["resample_size"] == [1, 10, 5, 3] and params["n_iter"] == 50


def test_subset_round_trip(tmp_path):
    h, selection = tree(), select(HierarchicalRows(max_repeats=3), 180)
    ids = [f"id{row}" for row in range(100)]
    write_subset(
        tmp_path / "s", selection, ids=ids, labels=LABELS, label_names=["a", "b", "c", "d"], hierarchy=h, key="k",
        inputs={"pool": "p"}, config={"size": 180},
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "s", "subset")
    assert (manifest["n"], manifest["n_distinct"], manifest["pool_size"], manifest["key"]) == (
        180,
        len(selection.rows),
        100,
        "k",
    )
    table = pq.read_table(tmp_path / "s" / "subset.parquet").to_pydict()
    assert list(table) == ["row", "id", "label", "cluster_l1", "cluster_l2", "n_repeat", "weight"]
    assert table["id"] == [f"id{row}" for row in table["row"]]
    assert (
        table["cluster_l2"] == h.labels(2)[selection.rows].tolist()
        and table["label"] == LABELS[selection.rows].tolist()
    )
    indices = np.load(tmp_path / "s" / "indices.npy", allow_pickle=False)
    assert indices.dtype == np.int64 and len(indices) == 180 and np.array_equal(indices, selection.indices)
    told = json.loads((tmp_path / "s" / "balance.json").read_text())
    assert told["labels"]["subset"]["n_classes"] == 4 and told["labels"]["subset"]["n"] == 180
    assert told["labels"]["pool"]["n_labelled"] == 75 and set(told["clusters"]) == {"level1", "level2"}
    back = read_subset(tmp_path / "s")
    for name in ("rows", "repeats", "weight"):
        assert np.array_equal(getattr(back, name), getattr(selection, name))
        assert getattr(back, name).dtype == getattr(selection, name).dtype


def test_subset_without_labels_or_hierarchy(tmp_path):
    write_subset(tmp_path / "s", select(AllRows(), None), ids=list(map(str, range(100))), labels=None, label_names=None)
    table = pq.read_table(tmp_path / "s" / "subset.parquet")
    assert table.column_names == ["row", "id", "n_repeat", "weight"]
    assert json.loads((tmp_path / "s" / "balance.json").read_text()) == {"labels": None, "clusters": {}}
    empty = Selection.of([])
    write_subset(tmp_path / "e", empty, ids=["a"], labels=np.array([0]), label_names=["x"])
    assert len(read_subset(tmp_path / "e")) == 0


def test_subset_of_another_pool(tmp_path):
    selection = select(RandomRows(), 10)
    cases = [
        {"ids": ["a"] * 3, "labels": None, "label_names": None},
        {"ids": ["a"] * 100, "labels": LABELS[:5], "label_names": None},
        {"ids": ["a"] * 120, "labels": None, "label_names": None, "hierarchy": tree()},
    ]
    for case in cases:
        with pytest.raises(DataError):
            write_subset(tmp_path / "s", selection, **case)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "repeats"), [([2, 1], [1, 1]), ([1, 1], [1, 1]), ([-1, 1], [1, 1]), ([1, 2], [0, 1]), ([1, 2], [1])]
)
def test_bad_selections(rows, repeats):
    with pytest.raises(DataError):
        Selection(np.array(rows), np.array(repeats), np.full(len(repeats), 0.5))


def test_damaged_subsets(tmp_path):
    write_subset(tmp_path / "s", select(RandomRows(), 10), ids=["a"] * 100, labels=None, label_names=None)
    (tmp_path / "s" / "subset.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="sample again"):
        read_subset(tmp_path / "s")
    with pytest.raises(DataError):
        read_subset(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"allocation": "even"}, {"within": "far"}, {"max_repeats": 0}, {"max_repeats": True}], ids=str
)
def test_settings_are_checked_when_made(wrong):
    with pytest.raises(ConfigError, match=f"sampler.{next(iter(wrong))}"):
        HierarchicalRows(**wrong)
