"""The baselines as arms: they plan, share what they can, and select on real digits; other pools are embedded alike."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module

from strata.curation import EmbeddingStore
from strata.curation.embed import embed
from strata.curation.encoders.pixels_pca import PixelsPCA
from strata.curation.errors import ConfigError, StrataError
from strata.curation.pools.digits import DigitsPool
from strata.curation.subset import read_subset
from strata.experiments.planning.plan import ARM_SETTINGS, Pools, make_plan, plan_sample
from strata.experiments.session import open_runner, open_store, plain
from strata.experiments.stage import unique

ARMS = {"metadata_cap", "retrieval", "semdedup", "density", "semdedup_hierarchical"}
DIGITS = (
    "pool=digits",
    "encoder=pixels_pca",
    "hierarchy=micro",
    "encoder.n_components=16",
    "hierarchy.n_clusters=[60,20,8]",
    "hierarchy.n_iter=10",
)


def composed(name: str, *overrides: str):
    with initialize_config_module("strata.configs", version_base="1.3"):
        return plain(compose(name, list(overrides)))


def curated(runs: Path, *overrides: str, seed: int = 0):
    """The stages of one arm on digits, run in this process: (folder of the subset, its stage, the store)."""
    config = composed(
        "curate",
        *DIGITS,
        "size=120",
        "out=x",
        f"paths.runs={runs}",
        "runner.workers=0",
        "wandb.mode=disabled",
        *overrides,
    )
    settings = {name: config[name] for name in ARM_SETTINGS if name in config}
    stage = plan_sample("curate", settings, seed, config, Pools())
    store = open_store(config)
    open_runner(config, store, "curate").run(unique([stage]))
    return store.path(stage), stage, store


def test_quickstart_plans_with_all_baselines():
    config = composed("run", "experiment=quickstart", "arms=baselines")
    assert set(config["arms"]) == ARMS | {"raw", "random", "hand", "flat", "hierarchical"}
    plan = make_plan(config)
    samples = {run.arm: run.sample for run in plan.runs if run.seed == 0}
    assert samples["semdedup"].inputs["hierarchy"].key == samples["hierarchical"].inputs["hierarchy"].key
    assert (
        samples["density"].inputs["embeddings"].key
        == samples["hierarchical"].inputs["hierarchy"].inputs["embeddings"].key
    )
    assert "embeddings" not in samples["random"].inputs and "hierarchy" not in samples["density"].inputs
    assert len({stage.key for stage in samples.values()}) == 10
    assert all(run.pretrain and run.pretrain.config["ssl"]["steps"] for run in plan.runs)


@pytest.mark.parametrize(
    "sampler", ["metadata_cap", "retrieval_labels", "semdedup", "density", "semdedup_hierarchical", "deduplicated"]
)
def test_every_baseline_selects_digits(sampler: str, tmp_path_factory: pytest.TempPathFactory):
    runs = tmp_path_factory.getbasetemp() / "baselines"  # one store: the clustering is shared
    folder, _, _ = curated(runs, f"sampler={sampler}")
    chosen = read_subset(folder)
    assert len(chosen) == len(chosen.rows) == 120 and chosen.rows.max() < 1200
    told = json.loads((folder / "balance.json").read_text())["labels"]
    assert told["subset"]["coverage"] == 1.0
    reports = [file.stem for file in folder.glob("dropped_*.parquet")]
    expected = {
        "semdedup": ["dropped_semdedup"],
        "semdedup_hierarchical": ["dropped_semdedup"],
        "deduplicated": ["dropped_near_duplicates"],
    }
    assert reports == expected.get(sampler, [])
    for report in reports:
        table = pq.read_table(folder / f"{report}.parquet").to_pydict()
        assert not set(table["row"]) & set(chosen.rows) and all(name.startswith("digit-") for name in table["match_id"])


def test_a_leaking_test_set_is_embedded_alike_and_kept_out(tmp_path: Path):
    test = ("+pool@references.test=digits", "references.test.split=all")  # all digits: the whole pool is in it
    options = ("sampler=leak_free", "sampler.filters.0.rule=top1", "sampler.filters.0.threshold=0.9999", *test)
    with pytest.raises(StrataError, match="leave none"):
        curated(tmp_path, *options)
    folder, stage, store = curated(tmp_path, *options[:-1], "references.test.split=test")
    own, other = (EmbeddingStore(store.path(stage.inputs[role])) for role in ("embeddings", "test"))
    assert own.manifest["encoder_state"] == other.manifest["encoder_state"] and len(other) == 597
    with pytest.raises(ConfigError, match="another encoder"):
        embed(DigitsPool(split="test"), PixelsPCA(n_components=8), tmp_path / "e", like=own.path, progress=False)
    report = pq.read_table(folder / "dropped_test_leaks.parquet").to_pydict()
    assert set(report) == {"row", "test_row", "similarity", "test_id", "id"}
    assert not set(report["row"]) & set(read_subset(folder).rows)


def test_retrieval_from_another_pool(tmp_path: Path):
    seeds = ("sampler=retrieval", "+pool@references.seeds=digits", "references.seeds.split=test")
    folder, stage, _ = curated(tmp_path, *seeds)
    assert len(read_subset(folder)) == 120
    again = curated(tmp_path, *seeds, "references.seeds.seed=1")[1]
    assert again.key != stage.key and again.inputs["embeddings"].key == stage.inputs["embeddings"].key
    assert np.array_equal(read_subset(folder).rows, read_subset(curated(tmp_path, *seeds)[0]).rows)


def test_the_sampler_behind_a_filter_can_be_changed(tmp_path: Path):
    _, stage, _ = curated(tmp_path, "sampler=deduplicated", "sampler@sampler.sampler=label_balanced")
    assert stage.config["sampler"]["sampler"]["_target_"].endswith("LabelBalanced") and "hierarchy" not in stage.inputs


def test_what_a_plan_refuses(tmp_path: Path):
    for sampler, role in (("retrieval", "seeds"), ("leak_free", "test")):
        with pytest.raises(ConfigError, match=rf"references\.{role}: not set"):
            curated(tmp_path, f"sampler={sampler}")
    with pytest.raises(ConfigError, match=r"sampler\.column"):
        curated(tmp_path, "sampler=metadata_cap", "sampler.column=tags")
    assert not list(tmp_path.rglob("manifest.json"))
