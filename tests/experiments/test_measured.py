"""Experiments without training: Figs. 2 to 4's way through, on a handful of points."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from strata.curation import Hierarchy
from strata.curation.errors import ConfigError
from strata.curation.uniformity import kl_to_uniform_2d
from strata.experiments.comparison.measured_results import collect_measures
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.session import open_runner, open_store, plain

CONF = Path(__file__).parent / "conf"


def composed(runs: Path, *overrides: str) -> dict:
    with initialize_config_module("strata.configs", version_base="1.3"):
        own = [f"hydra.searchpath=[file://{CONF}]", "experiment=tiny_measured", f"paths.runs={runs}"]
        return plain(compose("run", [*own, "runner.workers=0", "wandb.mode=disabled", *overrides]))


def run(config: dict) -> tuple[int, int]:
    plan, store = make_plan(config), open_store(config)
    return open_runner(config, store, plan.name).run(plan.stages)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    # per seed: pool, embed, cluster (shared by levels and sample), 2 codebooks, 1 sample, 5 measures
    assert run(composed(folder)) == (22, 0)
    return folder


def test_nothing_runs_twice_and_a_change_runs_what_depends_on_it(runs: Path):
    assert run(composed(runs)) == (0, 22)
    plan, store = make_plan(composed(runs, "measures.uniformity.bandwidth=0.4")), open_store(composed(runs))
    assert {stage.kind for stage in plan.stages if not store.done(stage)} == {"measure"}
    plan = make_plan(composed(runs, "arms.power.codebook.power=6"))
    assert sorted(s.kind for s in plan.stages if not store.done(s)) == ["codebook"] * 2 + ["measure"] * 2


def test_a_killed_stage_is_done_again_alone(runs: Path, tmp_path: Path):
    config = composed(tmp_path, "seeds=[0]")
    plan, store = make_plan(config), open_store(config)
    runner = open_runner(config, store, plan.name)
    power = next(run for run in plan.runs if run.arm == "power")
    runner.run(plan.stages)
    (measure,) = power.scores.values()
    before = (store.path(measure) / "measures.json").read_text()
    store.path(measure).rename(store.path(measure).with_name(measure.key + ".partial"))
    assert runner.run(plan.stages) == (1, 10)
    assert (store.path(measure) / "measures.json").read_text() == before


def test_values_are_those_of_the_points_on_disk(runs: Path):
    config = composed(runs)
    plan, store = make_plan(config), open_store(config)
    values = {(v.arm, v.seed, v.metric): v.value for v in collect_measures(plan, store)}
    for planned in plan.runs:
        points = store.path(planned.sample)
        if planned.arm == "levels":
            centroids = Hierarchy.load(points).levels[-1].centroids
            assert values["levels", planned.seed, "kl"] == pytest.approx(kl_to_uniform_2d(centroids, step=0.1))
        if planned.arm == "bound":
            draws = np.split(np.load(points / "points.npy"), 3)
            mean = np.mean([kl_to_uniform_2d(draw, step=0.1) for draw in draws])
            assert values["bound", planned.seed, "kl"] == pytest.approx(mean)
    counts = {arm: values[arm, 0, "points"] for arm in config["arms"]}
    assert counts == {"data": 140, "power": 12, "bound": 12, "levels": 12, "sample": 40}
    assert values["data", 0, "kl"] != values["data", 1, "kl"], "each seed has its own points"


def test_report(runs: Path, tmp_path: Path):
    config = composed(runs)
    plan, store = make_plan(config), open_store(config)
    tables = write_report(plan, store, config, tmp_path)
    assert len(tables) == 3 and [row[0] for row in tables[0].rows] == list(config["arms"])
    by_arm = {row[1]: row for row in tables[1].rows}
    assert by_arm["data"][3] == "0.951 VEC; 0.942 NB" and by_arm["data"][-1] == "yes"
    assert by_arm["data"][-2] == "+0.758", "printed: .951 - .193"
    assert by_arm["sample"][6].startswith("-") and by_arm["sample"][-1] == "", "nothing is printed for it"
    assert tables[2].rows[0][3].startswith("+") and tables[2].rows[0][5] == "+0.819", "printed: .951 - .132"
    text = (tmp_path / "table.md").read_text()
    assert "Seeds 0, 1" in text and "Code:" in text and "Command:" in text
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert {"values.csv", "table.csv", "table.tex", "config.yaml", "stages.json"} <= {
        f.name for f in tmp_path.iterdir()
    }
    assert json.loads((tmp_path / "stages.json").read_text())[0]["done"]


def test_tables_before_anything_ran(tmp_path: Path):
    config = composed(tmp_path)
    plan, store = make_plan(config), open_store(config)
    tables = write_report(plan, store, config, tmp_path / "report")
    assert all(cell.startswith("not run (0:0") for row in tables[0].rows for cell in row[1:]), "and what it would take"
    assert "not run" in tables[1].markdown() and tables[2].rows[0][-2:] == ["undecided", "run 0:03"]


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("~measures.uniformity", "measures"),
        ("arms.sample.measured=rows", "arms.sample.measured"),
        ("arms.power.codebook.power=1", "arms.power.codebook"),
        ("table.metrics=[top1]", "table.metrics"),
        ("hierarchy.n_clusters=[12,40]", "hierarchy.n_clusters"),
        ("size=500", "size"),
        ("table.compare.data=none", "table.compare"),
        ("printed.file=table9", "printed.file"),
        ("printed.arms.data=table9", "printed.arms.data"),
        ("claims.levels.order=[data]", "claims.levels"),
        ("+claims.levels.columns=[top1]", "claims.levels.columns"),
        ("columns.kl=[kl]", "columns.kl"),
        ("figure.kind=pie", "figure.kind"),
        ("measures.uniformity.step=0", "measure"),
        ("+arms.levels.colour=red", "arms.levels.colour"),
    ],
)
def test_bad_input_names_the_field(tmp_path: Path, override: str, field: str):
    with pytest.raises(ConfigError, match=f"^{field}"):
        make_plan(composed(tmp_path, override))
    assert not list(tmp_path.iterdir())
