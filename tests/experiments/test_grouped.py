"""Experiments of the same ways on several pools: the balance of subsets, from config to tables and figure."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from strata.curation.balance import balance
from strata.curation.errors import ConfigError
from strata.curation.subset import read_subset
from strata.experiments.comparison.grouped_tables import grouped_tables, ways_of
from strata.experiments.comparison.measured_results import collect_measures
from strata.experiments.comparison.values import Value
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.session import open_runner, open_store, plain
from strata.experiments.settings.build import build

CONF = Path(__file__).parent / "conf"


def composed(runs: Path, *overrides: str) -> dict:
    with initialize_config_module("strata.configs", version_base="1.3"):
        own = [f"hydra.searchpath=[file://{CONF}]", "experiment=tiny_grouped", f"paths.runs={runs}"]
        return plain(compose("run", [*own, "runner.workers=0", "wandb.mode=disabled", *overrides]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = composed(folder)
    plan, store = make_plan(config), open_store(config)
    open_runner(config, store, plan.name).run(plan.stages)
    return folder


def test_values_are_those_of_the_subsets_on_disk(runs: Path):
    config = composed(runs)
    plan, store = make_plan(config), open_store(config)
    values = {(v.arm, v.seed, v.metric): v.value for v in collect_measures(plan, store)}
    for planned in plan.runs:
        pool = build(config["arms"][planned.arm]["pool"], "pool")
        raw = planned.arm == "steep_raw"
        rows = np.arange(len(pool)) if raw else read_subset(store.path(planned.sample)).indices
        expected = balance(pool.labels[rows], 10).effective_classes
        assert values[planned.arm, planned.seed, "effective_classes"] == pytest.approx(expected)
        assert values[planned.arm, planned.seed, "rows"] == (len(pool) if raw else 40)
    assert values["steep_oracle", 0, "effective_classes"] > values["steep_random", 0, "effective_classes"] + 2


def test_report(runs: Path, tmp_path: Path):
    config = composed(runs)
    plan, store = make_plan(config), open_store(config)
    first, steep, steeper = write_report(plan, store, config, tmp_path)
    assert first.columns == ["way", "steep", "steep_er"]
    by_way = {row[0]: row for row in first.rows}
    assert set(by_way) == {"raw", "random", "flat", "oracle"}
    assert by_way["raw"][2] == by_way["oracle"][2] == "not run", "ways that a group has not"
    assert len(steep.rows) == 4 and len(steeper.rows) == 2
    by_way = {row[0]: row for row in steep.rows}
    assert by_way["random"][-1] == "" and by_way["oracle"][-1].startswith("+")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_differences_and_stars():
    """Paired by seed: a way that gains 1.0, 1.1, 0.9 is starred, one that gains 3, -3, 0 is not."""
    scores = {"g_random": [5.0, 6.0, 7.0], "g_sure": [6.0, 7.1, 7.9], "g_not": [8.0, 3.0, 7.0]}
    values = [Value(arm, s, "m", "kl", x) for arm, xs in scores.items() for s, x in enumerate(xs)]
    table = {"metrics": ["kl"], "groups": ["g"], "control": "random", "differences": ["kl"]}
    config = {"name": "t", "arms": scores, "measures": {"m": {}}, "table": table}
    _, group = grouped_tables(values, config)
    assert [row[-1] for row in group.rows] == ["", "+1.000 ± 0.248 *", "+0.000 ± 7.452"]


def test_the_longer_group_name_wins():
    config = {"table": {"groups": ["aid", "aid_lt"]}, "arms": dict.fromkeys(["aid_lt_flat", "aid_flat"])}
    assert ways_of(config) == {"aid": {"flat": "aid_flat"}, "aid_lt": {"flat": "aid_lt_flat"}}


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("table.groups=[steep_er]", "table.groups"),
        ("table.groups=[]", "table.groups"),
        ("table.groups=steep", "table.groups"),
        ("table.control=oracle", "table.control"),
        ("table.differences=[kl]", "table.differences"),
        ("figure.metrics=[kl]", "figure.metrics"),
        ("+arms.steep_flat.measured=centroids", "arms.steep_flat.measured"),
        ("measures.balance.tail=0", "measures.balance.tail"),
    ],
)
def test_bad_input_names_the_field(tmp_path: Path, override: str, field: str):
    with pytest.raises(ConfigError, match=f"^{field}"):
        make_plan(composed(tmp_path, override))
    assert not list(tmp_path.iterdir())
