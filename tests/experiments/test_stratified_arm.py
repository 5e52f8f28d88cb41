"""`sampler=stratified`: nothing is left out of the pool, and the trainer draws its batches spread over the clusters."""

from pathlib import Path

import numpy as np
import pytest
from flow import CONF, arguments
from hydra import compose, initialize_config_module

from strata.curation import Hierarchy
from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.curation.stratified import StratifiedBatchSampler
from strata.curation.subset import read_subset
from strata.experiments.cli import dispatch
from strata.experiments.plan import make_plan
from strata.experiments.session import plain
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.pretrain import pretrain

ARMS = ["~arms.random", "~arms.hand", "~arms.flat", "~arms.hierarchical", "table.controls=[raw]", "seeds=[0]"]
STRATIFIED = ["+sampler@arms.batches.sampler=stratified", "arms.batches.sampler.temperature=0.5"]


def planned(*overrides: str):
    with initialize_config_module("strata.configs", version_base="1.3"):
        composed = compose("run", [f"hydra.searchpath=[file://{CONF}]", "experiment=tiny", *overrides])
    return {run.arm: run.pretrain for run in make_plan(plain(composed)).runs}


def test_only_this_arm_has_another_key():
    plain_arms, arms = planned("seeds=[0]"), planned("seeds=[0]", *STRATIFIED)
    assert {arm: stage.key for arm, stage in plain_arms.items()}.items() <= {a: s.key for a, s in arms.items()}.items()
    stage = arms["batches"]
    assert stage.config["temperature"] == 0.5 and stage.inputs["hierarchy"].kind == "cluster"
    assert all("hierarchy" not in other.inputs for arm, other in arms.items() if arm != "batches")


def test_a_run_trains_on_the_whole_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert dispatch(arguments("run", *ARMS, *STRATIFIED, "~protocols.linear")) == 0
    made = {folder: read_manifest(folder) for folder in tmp_path.glob("store/pretrain/*")}
    ((folder, manifest),) = [(f, m) for f, m in made.items() if "hierarchy" in m["inputs"]]
    assert manifest["images"] == 1200
    selection = read_subset(tmp_path / "store" / "sample" / manifest["inputs"]["subset"])
    tree = Hierarchy.load(tmp_path / "store" / "cluster" / manifest["inputs"]["hierarchy"])
    np.testing.assert_allclose(selection.weight, tree.weights(0.5))
    others = [other for other in made if other != folder]
    assert others and all((other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()
                          for other in others)  # fmt: skip


def test_batches_are_those_of_the_sampler_and_resume(tmp_path: Path):
    pool = RenderedPool(40)
    tree = Hierarchy.from_assignments([np.arange(40) % 9 // 2, [0, 0, 0, 1, 1]])
    sampler = StratifiedBatchSampler(tree, 8, seed=3)
    source = ImageSource(pool, np.arange(40), 16, cache_bytes=1 << 20, num_workers=1, show_progress=False)
    options = {"stop": 6, "seed": 0, "batches": sampler}
    whole = [b.images for b in StepBatches(source, np.arange(40), 8, start=0, **options)]
    for step, images in enumerate(whole):
        assert (images == source.get(sampler.batch(0, step))).all()
        assert np.bincount(tree.labels(2)[sampler.batch(0, step)]).tolist() == [4, 4]
    rest = [b.images for b in StepBatches(source, np.arange(40), 8, start=4, **options)]
    assert all((a == b).all() for a, b in zip(rest, whole[4:], strict=True))
    source.close()


def test_what_does_not_fit_is_refused(tmp_path: Path):
    tree = Hierarchy.from_assignments([np.arange(40) % 5])
    config = ImageSSLConfig(batch_size=8)

    def start(sampler, n=40, **options):
        pretrain(config, RenderedPool(40), np.arange(n), tmp_path / "out", seed=0, batches=sampler, **options)

    with pytest.raises(ConfigError, match="batches: draws 4 rows on 1 ranks"):
        start(StratifiedBatchSampler(tree, 4))
    with pytest.raises(ConfigError, match="batches: draws rows that are not there"):
        start(StratifiedBatchSampler(tree, 8), n=8)
    with pytest.raises(ConfigError, match="repeats: are given with batches"):
        start(StratifiedBatchSampler(tree, 8), repeats=np.full(40, 2))
    assert not (tmp_path / "out").exists()
