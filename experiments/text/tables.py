"""Tables of a text experiment: arms named POOL_WAY, a block of tables for each pool."""

from collections.abc import Mapping, Sequence
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.grouped_tables import ways_of
from strata.experiments.comparison.statistics import estimate, paired_difference
from strata.experiments.comparison.table import NOT_RUN, Table
from strata.experiments.comparison.values import Value, by_seed

Column = tuple[str, str, str]  # head, group, metric
_DATA = ("documents", "tokens", "tokens_per_document")


def columns_of(config: Mapping[str, Any], block: str) -> list[Column]:
    """The columns of ``table.<block>``: "group: metric" pairs, e.g. {piqa: lm-v1 acc}."""
    told = config["table"].get(block) or {}
    if block == "data":
        return [(name.replace("_", " "), group, name) for group, names in told.items() for name in names]
    return [(group, group, metric) for group, metric in told.items()]


def check_text_table(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError where groups, arms and controls do not go together."""
    groups = config["table"].get("groups")
    if not isinstance(groups, list) or not groups:
        raise ConfigError("table.groups", f"{groups!r}", "list what the names of arms begin with, e.g. [open]")
    ways = ways_of(config)
    grouped = {arm for arms in ways.values() for arm in arms.values()}
    if lost := [arm for arm in config["arms"] if arm not in grouped]:
        raise ConfigError("table.groups", f"arm {lost[0]!r} is in none", "name arms GROUP_WAY")
    for block in ("data", "held_out", "tasks", "probes"):
        if not isinstance(config["table"].get(block) or {}, Mapping):
            raise ConfigError(f"table.{block}", f"{config['table'][block]!r}", "give pairs of group and metric")


def text_tables(values: Sequence[Value], config: Mapping[str, Any], missing: Sequence[str] = ()) -> list[Table]:
    """For each pool: its data, bits per byte of held-out documents, tasks and probes."""
    name, seeds = config["name"], sorted({value.seed for value in values})
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds."
    note = note if len(seeds) > 1 else "One seed, so no interval: claim nothing from it."
    tables = []
    for group, ways in ways_of(config).items():
        tables.append(
            _plain(f"{name}, {group}: data and training", ways, values, columns_of(config, "data"), [note, *missing])
        )
        for block, said, scale in (
            ("held_out", "bits per byte of held-out documents, lower is better", 1.0),
            ("tasks", "benchmarks, accuracy or exact match in %", 100.0),
            ("probes", "probes on frozen features, top-1 in %", 100.0),
        ):
            if columns := columns_of(config, block):
                tables.append(_compared(f"{name}, {group}: {said}", ways, values, columns, scale, config, note))
    return tables


def _plain(
    title: str, ways: Mapping[str, str], values: Sequence[Value], columns: Sequence[Column], notes: list[str]
) -> Table:
    rows = [[way, *[_cell(by_seed(values, arm, g, m), 1.0, m) for _, g, m in columns]] for way, arm in ways.items()]
    return Table(title, ["arm", *[head for head, _, _ in columns]], rows, notes)


def _compared(
    title: str,
    ways: Mapping[str, str],
    values: Sequence[Value],
    columns: Sequence[Column],
    scale: float,
    config: Mapping[str, Any],
    note: str,
) -> Table:
    """Rows of means, then for each control rows of the differences to it."""
    table = _plain(title, ways, values, columns, [note])
    rows = [[way, *[_cell(by_seed(values, arm, g, m), scale, m) for _, g, m in columns]] for way, arm in ways.items()]
    for control in config["table"]["controls"]:
        for way, arm in ways.items():
            if control in ways and way != control:
                differences = [_difference(values, arm, ways[control], g, m, scale) for _, g, m in columns]
                rows.append([f"{way} - {control}", *differences])
    notes = [note, "Differences are paired by seed; * where the interval excludes zero."]
    return Table(title, table.columns, rows, notes)


def _cell(seeds: dict[int, float], scale: float, metric: str) -> str:
    if not seeds:
        return NOT_RUN
    found = estimate(list(seeds.values()))
    if metric in _DATA or metric == "tokens_per_s":
        return f"{found.mean:,.0f}"
    digits = 1 if scale > 1 else 3
    interval = "" if found.n < 2 else f" ± {found.half_width * scale:.{digits}f}"
    return f"{found.mean * scale:.{digits}f}{interval}"


def _difference(values: Sequence[Value], arm: str, control: str, group: str, metric: str, scale: float) -> str:
    found = paired_difference(by_seed(values, arm, group, metric), by_seed(values, control, group, metric))
    if found is None:
        return NOT_RUN
    digits = 1 if scale > 1 else 3
    if found.n < 2:
        return f"{scale * found.mean:+.{digits}f}"
    star = "*" if found.excludes_zero else ""
    return f"{scale * found.mean:+.{digits}f} ± {scale * found.half_width:.{digits}f}{star}"
