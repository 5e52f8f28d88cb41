"""Experiments without training: Figs. 2 to 4's way through, on a handful of points."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from strata.curation import Hierarchy
from strata.curation.errors import ConfigError
from strata.curation.uniformity import kl_to_uniform_2d
from strata.experiments.measured_results import collect_measures, measured_tables, order_note
from strata.experiments.plan import make_plan
from strata.experiments.report import write_report
from strata.experiments.results import Value
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
    assert len(tables) == 2 and [row[0] for row in tables[0].rows] == list(config["arms"])
    by_arm = {row[0]: row for row in tables[1].rows}
    assert by_arm["data"][2] == "0.9" and by_arm["data"][-1] == "yes" and by_arm["data"][-2] == "+0.7"
    assert by_arm["sample"][-3].startswith("-") and by_arm["sample"][-1] == "", "nothing is printed for it"
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
    assert all(cell == "not run" for row in tables[0].rows for cell in row[1:]) and "not run" in tables[1].markdown()


def test_direction_and_order():
    """Printed: b below a, c above a. Ours: b surely below, c surely below, d not decided."""
    ours = {"a": [5, 6, 7], "b": [1, 2.1, 3], "c": [4, 5.1, 6], "d": [4, 9, 6]}
    values = [Value(arm, s, "m", "kl", float(x)) for arm, xs in ours.items() for s, x in enumerate(xs)]
    paper = {"source": "it", "values": {"kl": {"printed": {"a": 5, "b": 1, "c": 8, "d": 7}}}}
    table = {"metrics": ["kl"], "compare": {"b": "a", "c": "a", "d": "a"}}
    (_, compared) = measured_tables(values, {"name": "t", "arms": ours, "table": table, "paper": paper})
    assert [row[-1] for row in compared.rows] == ["", "yes", "no", "not decided (yes by the means)"]
    means = {arm: dict(enumerate(map(float, xs))) for arm, xs in ours.items()}
    note = order_note(means, paper["values"]["kl"]["printed"], dict.fromkeys("abcd", "a"), "printed")
    assert "4 of 6 pairs" in note and "a 6.0000, c 5.0333" in note and "c 5.0333, d 6.3333" in note


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
        ("+paper.values.kl.printed.other=1", "paper.values.kl.printed"),
        ("figure.kind=pie", "figure.kind"),
        ("measures.uniformity.step=0", "measure"),
        ("+arms.levels.colour=red", "arms.levels.colour"),
    ],
)
def test_bad_input_names_the_field(tmp_path: Path, override: str, field: str):
    with pytest.raises(ConfigError, match=f"^{field}"):
        make_plan(composed(tmp_path, override))
    assert not list(tmp_path.iterdir())
