"""Every table and figure has an experiment: each composes and plans at every scale, and its claims are the paper's."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module

from strata.curation.errors import StrataError
from strata.curation.paths import data_root
from strata.experiments.comparison.claims import claims_of, left_out, printed_statistic
from strata.experiments.comparison.columns import columns_of, paper_of
from strata.experiments.comparison.printed import printed_numbers
from strata.experiments.declared import absent, declare_absent
from strata.experiments.planning.plan import make_plan
from strata.experiments.session import plain

CONFIGS = Path(__file__).parents[2] / "configs"
WEB = [
    "table1_headline", "table2_imbalance", "table3_ablations", "table3_learned", "table4_extractor",
    "table5a_classification", "table5b_dense", "table5c_fairness",
    "sampling_noise", "control_random", "baselines", "batch_balance", "budget", "other_ssl",
]  # fmt: skip
NO_DATA_NEEDED = [name for name in WEB if name not in ("table5b_dense", "table5c_fairness")]
SIMULATED = ["fig2_exponents", "fig3_simulated", "intrinsic_dimension"]


def composed(name: str, *overrides: str) -> dict:
    with initialize_config_module("strata.configs", version_base="1.3"):
        return plain(compose("run", [f"experiment={name}", *overrides]))


@pytest.mark.parametrize("name", WEB)
def test_paper_scale_plans_without_data_and_is_refused_when_run(name, tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = composed(name, "scale=paper")
    with pytest.raises(StrataError):
        make_plan(config)  # what `strata run` does
    stand_ins = declare_absent(config)
    plan = make_plan(stand_ins)
    assert "web743m" in absent(stand_ins) and len(plan.runs) == len(config["arms"]) and left_out(config) == []
    pools = {stage.work for stage in plan.stages if stage.kind == "pool"}
    assert 743_000_000 in pools
    curated = [run for run in plan.runs if run.sample.config["sampler"]["_target_"].endswith("HierarchicalRows")]
    for run in curated:
        if name != "budget" and "hierarchy" in run.sample.inputs:
            assert run.sample.config["size"] == 100_000_000
    four = next(run for run in plan.runs if run.arm in ("4r", "raw"))
    assert four.pretrain is not None and four.pretrain.config["ssl"]["steps"] == 625_000
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


@pytest.mark.parametrize(
    ("name", "pools", "size", "kind", "steps"),
    [
        ("table6_text", {"ccnet-1": 641_000_000, "ccnet-2": 789_000_000}, 200_000_000, "pretrain_text", None),
        ("table7_satellite", {"maxar18m": 18_000_000}, 9_000_000, "pretrain", 625_000),
    ],
)
def test_text_and_satellite_plan_at_the_papers_scale_without_data(
    name, pools, size, kind, steps, tmp_path, monkeypatch
):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = composed(name, "scale=paper")
    with pytest.raises(StrataError):
        make_plan(config)
    stand_ins = declare_absent(config)
    plan = make_plan(stand_ins)
    assert set(pools) <= set(absent(stand_ins)) and len(plan.runs) == len(config["arms"])
    assert {stage.work for stage in plan.stages if stage.kind == "pool"} == set(pools.values())
    drawn = [run.sample for run in plan.runs if run.arm.endswith(("hierarchical", "flat"))]
    assert drawn and all(sample.config["size"] == size for sample in drawn)
    trained = [stage for stage in plan.stages if stage.kind == kind]
    assert len(trained) == len(config["arms"])
    if steps is None:  # 210 B tokens on every set
        assert all(stage.work == pytest.approx(210e9, rel=1e-4) for stage in trained)
    else:
        assert all(stage.config["ssl"]["steps"] == steps for stage in trained)
    theirs = {column for _, column in printed_numbers(config["printed"]["file"])}
    assert theirs <= {column.printed_as for column in columns_of(config).values()}


@pytest.mark.parametrize("name", NO_DATA_NEEDED)
@pytest.mark.parametrize("scale", ["tiny", "micro"])
def test_small_scales_plan_without_data(name, scale, tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    config = composed(name, f"scale={scale}")
    plan = make_plan(config | {"seeds": [0]})
    assert len(plan.runs) == len(config["arms"]) and left_out(config) == []
    assert scale == "tiny" or len(config["seeds"]) >= 3
    assert scale == "tiny" or claims_of(config) or config["table"].get("spread")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", WEB)
@pytest.mark.parametrize("scale", ["real", "gpu"])
def test_scales_on_real_images_plan(name, scale):
    needed = ["images/tinyimagenet_lt", "images/pacs", "images/grocery", "satellite/globe_height"]
    if data_root() is None or any(not (data_root() / folder).is_dir() for folder in needed):
        pytest.skip("the real data sets are not here; set STRATA_DATA")
    assert make_plan(composed(name, f"scale={scale}", "seeds=[0]")).runs


@pytest.mark.parametrize("name", [*WEB, *SIMULATED, "fig4_clusters_per_class", "fig5_tree", "table6_text"])
def test_every_name_of_the_comparison_is_there(name):
    """Arms of claims and of the paper's numbers are arms; columns of the paper are found; every printed arm is ours."""
    config = composed(name, *(["scale=paper"] if name in WEB else []))
    text = yaml.safe_load((CONFIGS / "experiment" / f"{name}.yaml").read_text())
    for claim in claims_of(config):
        assert set(claim.order) <= set(config["arms"]), claim.name
    assert set((text.get("printed") or {}).get("arms") or {}) <= set(config["arms"])
    paper = paper_of(config)
    if paper.file and name not in ("sampling_noise", "table3_learned"):
        assert set(paper.arms.values()) == {arm for arm, _ in printed_numbers(paper.file)}, (
            "no row of the paper is left out"
        )
        columns = columns_of(config).values()
        found = {column.printed_as for column in columns for arm in paper.arms if paper.numbers(arm, column)}
        assert found, "no column of ours is the paper's"


@pytest.mark.parametrize("name", ["fig2_exponents", "fig3_simulated"])
def test_simulations_are_at_the_papers_size_at_every_scale(name):
    micro, paper = composed(name), composed(name, "scale=paper")
    keys = [[stage.key for stage in make_plan(config | {"seeds": [0]}).stages] for config in (micro, paper)]
    assert keys[0] == keys[1]
    assert {**paper, "scale": "micro"} == micro


def test_fig4_at_paper_scale_has_the_trees_of_table_3_and_votes_of_imagenet(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    with pytest.raises(StrataError):
        make_plan(composed("fig4_clusters_per_class", "scale=paper"))
    plan = make_plan(declare_absent(composed("fig4_clusters_per_class", "scale=paper")))
    trees = {stage.key for stage in make_plan(declare_absent(composed("table3_ablations", "scale=paper"))).stages}
    assert [run.arm for run in plan.runs] == [f"levels_{levels}" for levels in (1, 2, 3, 4)]
    for run in plan.runs:
        assert run.sample.key in trees, run.arm
        (measure,) = run.scores.values()
        assert (
            measure.inputs["reference"].work == 1_281_167 and measure.inputs["reference"].inputs["like"].work == 743e6
        )
    assert not list(tmp_path.iterdir())


def test_every_column_of_tables_2_to_5_is_measured_at_paper_scale():
    for name in ("table2_imbalance", "table3_ablations", "table4_extractor", "table5a_classification", "table5b_dense",
                 "table5c_fairness"):  # fmt: skip
        config = composed(name, "scale=paper")
        theirs = {column for _, column in printed_numbers(config["printed"]["file"])}
        assert theirs <= {column.printed_as for column in columns_of(config).values()}, name


@pytest.mark.parametrize("name", [*WEB, "fig3_simulated"])
def test_the_papers_own_numbers_bear_out_its_claims(name):
    """What we judge is what the paper says: its numbers have the sign that the claim gives them."""
    config = composed(name, *(["scale=paper"] if name in WEB else []))
    paper = paper_of(config)
    for claim in claims_of(config):
        printed = printed_statistic(claim, paper)
        if printed is None:
            continue
        assert abs(printed) < claim.margin if claim.margin is not None else printed > 0, (claim.name, printed)


@pytest.mark.parametrize("name", [*WEB, *SIMULATED, "fig4_clusters_per_class", "fig5_tree"])
def test_a_file_opens_with_what_it_shows_and_costs(name):
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text()
    for heading in ("# What it shows:", "# What to expect:", "# What it costs:"):
        assert heading in text
    assert "@COST@" not in text


def test_an_unknown_scale_is_refused():
    with pytest.raises(StrataError, match=r"^scale: quickstart has no 'paper'"):
        make_plan(composed("quickstart", "scale=paper"))
