"""Arms that balance while they train: they share the clustering with the balanced subset, and train on the whole pool."""

import json
from pathlib import Path

import pytest
from flow import arguments
from hydra import compose, initialize_config_module

from strata.curation.errors import ConfigError
from strata.experiments.cli import dispatch
from strata.experiments.comparison.claims import claims_of, left_out
from strata.experiments.planning.plan import make_plan
from strata.experiments.session import plain

DRAWN = [f"{way}_{share}" for way in ("weighted", "stratified") for share in (0, 50, 100)]


def composed(*overrides: str):
    with initialize_config_module("strata.configs", version_base="1.3"):
        return plain(
            compose("run", ["experiment=quickstart", "arms=batch_balance", "~arms.flat", "seeds=[0]", *overrides])
        )


def test_arms_share_the_clustering_and_differ_in_the_training():
    runs = {run.arm: run for run in make_plan(composed()).runs}
    assert set(runs) == {"raw", "random", "subset", *DRAWN}
    tree = runs["subset"].sample.inputs["hierarchy"].key
    for arm in DRAWN:
        assert runs[arm].pretrain.inputs["hierarchy"].key == tree
        assert runs[arm].sample.key == runs["raw"].sample.key  # the whole pool
    assert "hierarchy" not in runs["raw"].pretrain.inputs | runs["subset"].pretrain.inputs
    assert len({run.pretrain.key for run in runs.values()}) == len(runs)


def test_claims_of_arms_that_were_taken_out_are_left_out_and_said_so():
    config = composed()  # quickstart's claims are of hierarchical and flat, which these arms are without
    assert claims_of(config) == []
    assert left_out(config)[0] == "claims.raw is left out: 'hierarchical' is no arm of this run"
    assert len(left_out(config)) == len(config["claims"])


def test_where_decoded_images_lie_is_no_part_of_the_key(tmp_path: Path):
    keys = [
        {run.pretrain.key for run in make_plan(composed(*more)).runs}
        for more in ([], [f"paths.decoded={tmp_path}/images"])
    ]
    assert keys[0] == keys[1] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("+arms.subset.ssl={sampling: weighted}", None),
        ("arms.weighted_50.ssl.sampling=evenly", "arms.weighted_50.ssl.sampling"),
        ("arms.weighted_50.ssl.temperature=2", "arms.weighted_50.ssl.temperature"),
        ("+arms.weighted_50.hierarchy={n_clusters: [90000, 10]}", "arms.weighted_50.hierarchy.n_clusters"),
        ("+arms.subset={ssl: {sampling: weighted}, sampler: {max_repeats: 2}}", "arms.subset.ssl.sampling"),
    ],
)
def test_what_cannot_be_is_refused_while_planning(override: str, field: str | None):
    if field is None:  # a subset may be weighted too: by the tree of its own rows
        assert make_plan(composed(override))
        return
    with pytest.raises(ConfigError) as caught:
        make_plan(composed(override))
    assert caught.value.field == field


def test_they_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Through the command line, with decoded images on disk that all trainings share."""
    runs, decoded = tmp_path / "runs", tmp_path / "decoded"
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    dropped = ("subset", "random", "flat", "weighted_0", "weighted_50", "stratified_0", "stratified_50")
    overrides = ("arms=batch_balance", "seeds=[0]", *(f"~arms.{name}" for name in dropped), "~protocols.linear")
    assert dispatch(arguments("run", *overrides, f"paths.decoded={decoded}", "table.controls=[raw]")) == 0
    manifests = [json.loads(file.read_text()) for file in runs.glob("store/pretrain/*/manifest.json")]
    by_sampling = {manifest["config"]["sampling"]: manifest for manifest in manifests}
    assert set(by_sampling) == {"epoch", "weighted", "stratified"}
    assert [name for name, manifest in by_sampling.items() if "hierarchy" not in manifest["inputs"]] == ["epoch"]
    assert len({manifest["last"]["loss"] for manifest in manifests}) == len(manifests) == 3
    (kept,) = decoded.iterdir()
    assert {"images.npy", "extents.npy", "rows.npy"} <= {file.name for file in kept.iterdir()}
