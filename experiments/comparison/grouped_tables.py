"""Tables of an experiment without training whose arms are the same ways on several pools: arms named GROUP_WAY."""

from collections.abc import Mapping, Sequence
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.statistics import Estimate, estimate, paired_difference
from strata.experiments.comparison.table import NOT_RUN, Table
from strata.experiments.comparison.values import Value, by_seed


def ways_of(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """group -> way -> arm, in the order of ``table.groups`` and of the arms. Of two groups that fit, the longer name."""
    groups: list[str] = config["table"]["groups"]
    found: dict[str, dict[str, str]] = {group: {} for group in groups}
    for arm in config["arms"]:
        fitting = [group for group in groups if arm.startswith(f"{group}_")]
        if fitting:
            group = max(fitting, key=len)
            found[group][arm.removeprefix(f"{group}_")] = arm
    return found


def check_groups(config: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Raise a ConfigError where groups, arms, control and metrics do not go together."""
    groups, control = config["table"]["groups"], config["table"].get("control")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, str) for group in groups):
        raise ConfigError("table.groups", f"{groups!r}", "list what the names of arms begin with")
    if len(config["measures"]) != 1:
        raise ConfigError("table.groups", "goes with one measure", "leave table.groups out")
    ways = ways_of(config)
    grouped = {arm for arms in ways.values() for arm in arms.values()}
    if lost := [arm for arm in config["arms"] if arm not in grouped]:
        raise ConfigError("table.groups", f"arm {lost[0]!r} is in none", "name arms GROUP_WAY")
    for group, arms in ways.items():
        if control not in arms:
            raise ConfigError(
                "table.control", f"{control!r} is no way of {group!r}", f"use {', '.join(arms) or 'arms'}"
            )
    differences = config["table"].get("differences") or []
    if not set(differences) <= set(metrics):
        raise ConfigError("table.differences", f"{differences!r}", f"list some of {', '.join(metrics)}")
    shown = config["figure"].get("metrics", [])
    if config["figure"].get("kind") == "groups" and (not shown or not set(shown) <= set(metrics)):
        raise ConfigError("figure.metrics", f"{shown!r}", f"list some of {', '.join(metrics)}")


def grouped_tables(values: Sequence[Value], config: Mapping[str, Any], missing: Sequence[str] = ()) -> list[Table]:
    """First the first metric, ways by groups; then a table per group with all metrics and the differences to the control."""
    ways, control, metrics = ways_of(config), config["table"]["control"], config["table"]["metrics"]
    compared = config["table"].get("differences") or []
    measure, name = next(iter(config["measures"])), config["name"]
    seeds = sorted({value.seed for value in values})
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds."
    if len(seeds) < 2:
        note = "One seed, so no interval: claim nothing from it."
    elif any(value.value is None for value in values):
        note = note.replace("over", "over those that are done of")

    def found(arm: str | None, metric: str) -> dict[int, float]:
        return {} if arm is None else by_seed(values, arm, measure, metric)

    every = dict.fromkeys(way for arms in ways.values() for way in arms)
    rows = [[way, *[_cell(found(arms.get(way), metrics[0])) for arms in ways.values()]] for way in every]
    tables = [Table(f"{name}: {metrics[0]}", ["way", *ways], rows, [note, *missing])]
    for group, arms in ways.items():
        rows = []
        for way, arm in arms.items():
            row = [way, *[_cell(found(arm, metric)) for metric in metrics]]
            row += [_difference(found(arm, m), found(arms[control], m), way == control) for m in compared]
            rows.append(row)
        heads = ["way", *metrics, *[f"{metric} - {control}'s" for metric in compared]]
        notes = [note, f"Differences to {control} are paired by seed; * where the interval excludes zero."]
        tables.append(Table(f"{name}: {group}", heads, rows, notes))
    return tables


def _cell(seeds: dict[int, float]) -> str:
    return NOT_RUN if not seeds else _said(estimate(list(seeds.values())), "")


def _difference(ours: dict[int, float], control: dict[int, float], same: bool) -> str:
    if same:
        return ""
    found = paired_difference(ours, control)
    return NOT_RUN if found is None else _said(found, "+") + (" *" if found.excludes_zero else "")


def _said(found: Estimate, sign: str) -> str:
    """Numbers of classes with two decimals, shares with three."""
    digits = 2 if abs(found.mean) >= 1.5 else 3
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:{sign}.{digits}f}{interval}"
