"""Tables of an experiment without training: each measure by arm, and beside it what the paper printed."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.build import build
from strata.experiments.grouped_tables import check_groups, grouped_tables
from strata.experiments.plan import Plan
from strata.experiments.results import Value
from strata.experiments.statistics import estimate, paired_difference
from strata.experiments.store import Store
from strata.experiments.table import NOT_RUN, Table, by_seed

Paper = Mapping[str, Mapping[str, float]]  # source, e.g. "printed" -> arm -> value


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


def check_comparison(config: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Raise a ConfigError where the table or the paper's numbers name a metric or an arm that there is not."""
    shown = config["table"].get("metrics")
    if not isinstance(shown, list) or not shown or not set(shown) <= set(metrics):
        raise ConfigError("table.metrics", f"{shown!r}", f"list some of {', '.join(dict.fromkeys(metrics))}")
    if config["table"].get("groups") is not None:
        check_groups(config, metrics)
    arms, paper = config["arms"], config.get("paper") or {}
    for arm, control in (config["table"].get("compare") or {}).items():
        if arm not in arms or control not in arms:
            raise ConfigError("table.compare", f"{arm}: {control} names no arm", f"use {', '.join(arms)}")
    for metric, sources in (paper.get("values") or {}).items():
        for source, printed in sources.items():
            if unknown := sorted(set(printed) - set(arms)):
                raise ConfigError(f"paper.values.{metric}.{source}", f"{unknown[0]!r} is no arm", "name the arms alike")


def measured_tables(values: Sequence[Value], config: Mapping[str, Any], missing: Sequence[str] = ()) -> list[Table]:
    """All measures by arm, then for each metric that the paper has numbers of, the two side by side.

    ``config.table.compare`` names the arm that each arm is compared with; ``missing``: notes on what was not run.
    """
    if config["table"].get("groups") is not None:
        return grouped_tables(values, config, missing)
    arms, compare = list(config["arms"]), config["table"].get("compare") or {}
    shown = [(g, m) for g, m in dict.fromkeys((v.group, v.metric) for v in values) if m in config["table"]["metrics"]]
    seeds = sorted({value.seed for value in values})
    several = len({group for group, _ in shown}) > 1
    heads = ["arm", *[f"{m} ({g})" if several else m for g, m in shown]]
    rows = [[arm, *[_mean(by_seed(values, arm, g, m)) for g, m in shown]] for arm in arms]
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds."
    if len(seeds) < 2:
        note = "One seed, so no interval: claim nothing from it."
    tables = [Table(config["name"], heads, rows, [note, *missing])]
    paper = config.get("paper") or {}
    for metric, sources in (paper.get("values") or {}).items():
        for group in [g for g, m in shown if m == metric]:
            ours = {arm: by_seed(values, arm, group, metric) for arm in arms}
            title = f"{config['name']}: {metric}{f' ({group})' if several else ''} and the paper's"
            tables.append(_comparison(title, ours, sources, compare, paper["source"]))
    return tables


def _comparison(
    title: str, ours: Mapping[str, dict[int, float]], sources: Paper, compare: Mapping[str, str], cited: str
) -> Table:
    first = next(iter(sources))
    rows = []
    for arm, seeds in ours.items():
        printed = [f"{by_arm[arm]:g}" if arm in by_arm else "" for by_arm in sources.values()]
        row = [arm, _mean(seeds), *printed]
        control = compare.get(arm)
        row += ["", "", "", ""] if control is None else _against(ours, arm, control, sources[first])
        rows.append(row)
    heads = ["arm", "ours", *[f"paper, {source}" for source in sources]]
    heads += ["compared with", "ours", f"paper, {first}", "direction agrees"]
    notes = [
        f"Paper: {cited}",
        "Differences paired by seed, 95 % t interval; yes or no only where the interval excludes zero.",
        *[order_note(ours, by_arm, compare, source) for source, by_arm in sources.items()],
    ]
    return Table(title, heads, rows, notes)


def _against(ours: Mapping[str, dict[int, float]], arm: str, control: str, printed: Mapping[str, float]) -> list[str]:
    found = paired_difference(ours[arm], ours[control])
    difference = NOT_RUN if found is None else f"{found.mean:+.4f}"
    difference += "" if found is None or found.n < 2 else f" ± {found.half_width:.4f}"
    if arm not in printed or control not in printed:
        return [control, difference, "", ""]
    theirs = printed[arm] - printed[control]
    agrees = "yes" if found is not None and found.mean * theirs > 0 else "no"
    if found is None or not found.excludes_zero:
        agrees = NOT_RUN if found is None else f"not decided ({agrees} by the means)"
    return [control, difference, f"{theirs:+.4g}", agrees]


def order_note(
    ours: Mapping[str, dict[int, float]], printed: Mapping[str, float], compare: Mapping[str, str], source: str
) -> str:
    """One sentence: how many pairs of arms (of those compared with the same arm) stand in the paper's order."""
    means = {arm: estimate(list(seeds.values())).mean for arm, seeds in ours.items() if seeds and arm in printed}
    group = {arm: compare.get(arm, arm) for arm in means}
    pairs = [(a, b) for a, b in itertools.combinations(means, 2) if group[a] == group[b] and printed[a] != printed[b]]
    wrong = [(a, b) for a, b in pairs if (means[a] - means[b]) * (printed[a] - printed[b]) <= 0]
    if not pairs:
        return f"Order of the arms ({source}): {NOT_RUN}."
    listed = "".join(f"; differs: {a} {means[a]:.4f}, {b} {means[b]:.4f}" for a, b in wrong)
    return f"Order of the arms ({source}): {len(pairs) - len(wrong)} of {len(pairs)} pairs as in the paper{listed}."


def _mean(seeds: dict[int, float]) -> str:
    if not seeds:
        return NOT_RUN
    found = estimate(list(seeds.values()))
    digits = 0 if all(value.is_integer() for value in seeds.values()) and abs(found.mean) >= 10 else 4
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:,.{digits}f}{interval}"
