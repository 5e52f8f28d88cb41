"""Tables of an experiment without training: each measure by arm."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.grouped_tables import check_groups, grouped_tables
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.table import Cost, Table, missing
from strata.experiments.comparison.values import Value, by_seed
from strata.experiments.planning.plan import Plan
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import one_of
from strata.experiments.store import Store

UNDEFINED = "–"  # a number that was looked for and that the pool or the level does not have


def collect_measures(plan: Plan, store: Store) -> list[Value]:
    """Every number of every measure; of a stage that is not finished, and of what is not defined, None."""
    values = []
    for run in plan.runs:
        for (name, _), stage in run.scores.items():
            file = store.path(stage) / "measures.json"
            metrics = build(stage.config["measure"], f"measures.{name}").metrics
            found = json.loads(file.read_text()) if file.is_file() else dict.fromkeys(metrics)
            values += [Value(run.arm, run.seed, name, metric, found[metric], stage=stage.key) for metric in metrics]
    return values


def check_measured(config: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Raise a ConfigError where the table names a metric or an arm that there is not."""
    one_of("table.rows", config["table"].get("rows") or "arms", ("arms", "measures"))
    shown = config["table"].get("metrics")
    if not isinstance(shown, list) or not shown or not set(shown) <= set(metrics):
        raise ConfigError("table.metrics", f"{shown!r}", f"list some of {', '.join(dict.fromkeys(metrics))}")
    if config["table"].get("groups") is not None:
        check_groups(config, metrics)


def measured_tables(
    values: Sequence[Value], config: Mapping[str, Any], notes: Sequence[str] = (), cost: Cost | None = None
) -> list[Table]:
    """All measures by arm; with ``table.rows: measures`` a row per arm and measure and a column per metric.

    Args:
        values: from ``collect_measures``.
        config: of the experiment.
        notes: on what was not run.
        cost: of cells that were not run.
    """
    if config["table"].get("groups") is not None:
        return grouped_tables(values, config, notes)
    arms = list(config["arms"])
    shown = [(g, m) for g, m in dict.fromkeys((v.group, v.metric) for v in values) if m in config["table"]["metrics"]]
    seeds = sorted({value.seed for value in values})
    several = len({group for group, _ in shown}) > 1
    if config["table"].get("rows") == "measures":
        metrics, groups = list(config["table"]["metrics"]), list(dict.fromkeys(g for g, _ in shown))
        heads = ["arm", "measure", *metrics]
        rows = [[arm, g, *[_cell(values, arm, g, m, cost) for m in metrics]] for arm in arms for g in groups]
    else:
        heads = ["arm", *[f"{m} ({g})" if several else m for g, m in shown]]
        rows = [[arm, *[_cell(values, arm, g, m, cost) for g, m in shown]] for arm in arms]
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds."
    if len(seeds) < 2:
        note = "One seed, so no interval: claim nothing from it."
    if any(cell == UNDEFINED for row in rows for cell in row):
        notes = [f"{UNDEFINED}: not defined here (no parents, or no labels).", *notes]
    return [Table(config["name"], heads, rows, [note, *notes])]


def _cell(values: Sequence[Value], arm: str, group: str, metric: str, cost: Cost | None) -> str:
    """Mean and interval; what it would cost where the measure was not run; where it was, the metric is not defined."""
    if found := by_seed(values, arm, group, metric):
        return _mean(found)
    ran = any(v.value is not None for v in values if v.arm == arm and v.group == group)
    return UNDEFINED if ran else missing(cost, arm, group)


def _mean(seeds: dict[int, float]) -> str:
    found = estimate(list(seeds.values()))
    whole = all(value.is_integer() for value in seeds.values())
    digits = 4 if abs(found.mean) < 10 else 0 if whole else 2
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:,.{digits}f}{interval}"
