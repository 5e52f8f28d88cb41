"""Tables of an experiment without training: each measure by arm."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.build import build
from strata.experiments.grouped_tables import check_groups, grouped_tables
from strata.experiments.plan import Plan
from strata.experiments.statistics import estimate
from strata.experiments.store import Store
from strata.experiments.table import Cost, Table, missing
from strata.experiments.values import Value, by_seed


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
    shown = config["table"].get("metrics")
    if not isinstance(shown, list) or not shown or not set(shown) <= set(metrics):
        raise ConfigError("table.metrics", f"{shown!r}", f"list some of {', '.join(dict.fromkeys(metrics))}")
    if config["table"].get("groups") is not None:
        check_groups(config, metrics)


def measured_tables(
    values: Sequence[Value], config: Mapping[str, Any], notes: Sequence[str] = (), cost: Cost | None = None
) -> list[Table]:
    """All measures by arm.

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
    heads = ["arm", *[f"{m} ({g})" if several else m for g, m in shown]]
    rows = [[arm, *[_mean(by_seed(values, arm, g, m)) or missing(cost, arm, g) for g, m in shown]] for arm in arms]
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds."
    if len(seeds) < 2:
        note = "One seed, so no interval: claim nothing from it."
    return [Table(config["name"], heads, rows, [note, *notes])]


def _mean(seeds: dict[int, float]) -> str:
    if not seeds:
        return ""
    found = estimate(list(seeds.values()))
    digits = 0 if all(value.is_integer() for value in seeds.values()) and abs(found.mean) >= 10 else 4
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:,.{digits}f}{interval}"
