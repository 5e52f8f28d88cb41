"""What the paper (or an experiment) claims, judged by our own numbers: agrees, disagrees, undecided, and what would decide.

A claim is an order of arms, best first, on some columns. Its statistic is one number per seed: the slope over the ranks
of the order, per step, averaged over the columns; for two arms that is their difference, for one arm (``above``) what it has
over a number that was set before. It is positive where the order holds. The 95 % t interval over seeds decides. A claim of no
difference (``same``) is decided by whether that interval lies within a margin that was set before.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from scipy import stats

from strata.curation.errors import ConfigError
from strata.experiments.comparison.columns import Column, Paper, columns_of, paper_of
from strata.experiments.comparison.printed import printed_columns
from strata.experiments.comparison.statistics import Estimate, estimate
from strata.experiments.comparison.table import NOT_RUN, Table
from strata.experiments.comparison.values import Value

if TYPE_CHECKING:
    from strata.experiments.planning.cell_costs import CellCosts  # it needs a plan, and planning checks claims

AGREES, DISAGREES, UNDECIDED = "agrees", "disagrees", "undecided"
MOST_SEEDS = 50  # beyond these, more seeds are no answer


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: of the claim.
        says: in words.
        order: arms, best first; with ``margin`` two arms that are about equal; with ``above`` one arm.
        on: columns, averaged; all in one unit.
        margin: half the width of "about equal", in the columns' unit; None for an order.
        above: what the arm is better than, in the columns' unit; None for arms that are compared with each other.
    """

    name: str
    says: str
    order: tuple[str, ...]
    on: tuple[Column, ...]
    margin: float | None
    above: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What came out: the statistic with its interval, p of the t test against 0, the paper's own value of it."""

    claim: Claim
    found: Estimate | None
    p: float
    printed: float | None
    verdict: str
    decide: str


def claims_of(config: Mapping[str, Any]) -> list[Claim]:
    """``claims``: name -> {says, order: [best, ..., worst], columns: [...]} or {says, same: [a, b], margin, columns} or
    {says, order: [arm], above: number, columns}.

    Raises:
        ConfigError: a claim of another shape, or of a column that there is not.
    """
    columns, claims = columns_of(config), []
    for name, told in (config.get("claims") or {}).items():
        field = f"claims.{name}"
        if not isinstance(told, Mapping) or not set(told) <= {"says", "order", "same", "margin", "above", "columns"}:
            raise ConfigError(
                field, f"{told!r}", "give says, columns, and order (of one arm: with above) or same with margin"
            )
        _check_shape(field, told, config["arms"])
        order, above = told.get("order") or told["same"], told.get("above")
        if not set(order) <= set(config["arms"]):  # whoever takes an arm out asks less; see left_out
            continue
        on = told.get("columns") or list(columns)
        if unknown := [column for column in on if column not in columns and column not in printed_columns()]:
            raise ConfigError(
                f"{field}.columns", f"{unknown[0]!r} is no column", f"use {', '.join(columns) or 'columns'}"
            )
        on = [column for column in on if column in columns]  # not every scale measures all of the paper's columns
        if not on:
            continue
        shown = tuple(columns[column] for column in on)
        if len({(column.percent, column.lower) for column in shown}) > 1:
            raise ConfigError(f"{field}.columns", "columns of different units", "make it two claims")
        claims.append(Claim(name, told.get("says", name), tuple(order), shown, told.get("margin"), above))
    return claims


def left_out(config: Mapping[str, Any]) -> list[str]:
    """A line for each claim that is not asked because an arm of it is not in this run."""
    found = []
    for name, told in (config.get("claims") or {}).items():
        absent = [arm for arm in told.get("order") or told["same"] if arm not in config["arms"]]
        found += [f"claims.{name} is left out: {absent[0]!r} is no arm of this run"] if absent else []
    return found


def _check_shape(field: str, told: Mapping[str, Any], arms: Collection[str]) -> None:
    """Raise a ConfigError where what a claim says cannot be judged: words, arms, margin, number, list of columns."""
    said = f"{dict(told)!r}"
    order, on = told.get("order", told.get("same")), told.get("columns") or []
    if not isinstance(told.get("says", ""), str):
        raise ConfigError(f"{field}.says", f"{told['says']!r}", "give words")
    if ("order" in told) == ("same" in told) or not isinstance(order, list) or len(set(map(str, order))) != len(order):
        raise ConfigError(field, said, "give order: [best, ..., worst], or same: [a, b] and margin; each arm once")
    if not all(isinstance(arm, str) for arm in order):
        raise ConfigError(field, said, f"name arms: {', '.join(arms)}")
    if not isinstance(on, list):
        raise ConfigError(f"{field}.columns", f"{on!r}", "give a list, e.g. [knn]")
    above, margin = told.get("above"), told.get("margin")
    if above is not None and (len(order) != 1 or "order" not in told or "margin" in told or not _number(above)):
        raise ConfigError(field, said, "give with above, a number, one arm: order: [arm]")
    if (len(order) < 2 and above is None) or ("same" in told) != ("margin" in told):
        raise ConfigError(field, said, "give order: [best, ..., worst], or same: [a, b] and margin")
    if "same" in told and (len(order) != 2 or not _number(margin) or margin <= 0):
        raise ConfigError(field, said, "give same: [a, b] and margin, a number above 0")


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def judge(values: Sequence[Value], config: Mapping[str, Any], costs: "CellCosts | None" = None) -> list[Verdict]:
    """Every claim of an experiment, from its values."""
    paper = paper_of(config)
    return [_verdict(claim, values, paper, costs) for claim in claims_of(config)]


def statistic(claim: Claim, values: Sequence[Value]) -> dict[int, float]:
    """seed -> the slope per rank (see the module), over the seeds that have every arm and column."""
    by_column = [[column.of(values, arm) for arm in claim.order] for column in claim.on]
    seeds = set.intersection(*[set(arm) for arms in by_column for arm in arms])
    weights = _weights(len(claim.order))
    found = {}
    for seed in sorted(seeds):
        slopes = [
            (-1.0 if column.lower else 1.0)
            * (sum(w * arm[seed] for w, arm in zip(weights, arms, strict=True)) - (claim.above or 0.0))
            for column, arms in zip(claim.on, by_column, strict=True)
        ]
        found[seed] = float(np.mean(slopes))
    return found


def printed_statistic(claim: Claim, paper: Paper) -> float | None:
    """The same of the paper's numbers; None if one of them is not printed."""
    weights, slopes = _weights(len(claim.order)), []
    for column in claim.on:
        numbers = [paper.value(arm, column) for arm in claim.order]
        if any(number is None for number in numbers):
            return None
        slope = sum(w * number for w, number in zip(weights, numbers, strict=True) if number is not None)
        slope -= claim.above or 0.0
        slopes.append(-slope if column.lower else slope)
    return float(np.mean(slopes))


def claims_table(title: str, verdicts: Sequence[Verdict], absent: Sequence[str] = ()) -> Table:
    """One row per claim; ``absent`` says which were left out."""
    rows = []
    for verdict in verdicts:
        claim, found = verdict.claim, verdict.found
        ours = NOT_RUN if found is None else _said(found, claim.on[0].percent)
        relation = " > " if claim.margin is None else " = "
        order = claim.order if claim.above is None else (*claim.order, f"{claim.above:g}")
        rows.append([
            claim.says, relation.join(order), ", ".join(column.name for column in claim.on), ours,
            "" if math.isnan(verdict.p) else f"{verdict.p:.3f}",
            "" if verdict.printed is None else f"{verdict.printed:+.3g}", verdict.verdict, verdict.decide,
        ])  # fmt: skip
    heads = ["claim", "order", "on", "ours, paired by seed", "p", "paper", "verdict", "what would decide"]
    notes = [
        "Ours: per seed the slope over the order per step (two arms: their difference), positive where the order holds, "
        "mean over the columns; 95 % t interval over seeds; p: t test against 0, not corrected for the number of claims. "
        "Lower-is-better columns count with the other sign. Points of % where the columns are in %.",
        *absent,
    ]
    return Table(f"{title}: claims", heads, rows, notes)


def _weights(n: int) -> list[float]:
    """Of the least-squares slope over n ranks, the first being the best; of one arm, itself."""
    if n == 1:
        return [1.0]
    ranks = np.arange(n)[::-1] - (n - 1) / 2
    return [float(w) for w in ranks / (ranks**2).sum()]


def _verdict(claim: Claim, values: Sequence[Value], paper: Paper, costs: "CellCosts | None") -> Verdict:
    per_seed, printed = statistic(claim, values), printed_statistic(claim, paper)
    found = estimate(list(per_seed.values())) if per_seed else None
    p = math.nan
    if found is not None and found.n > 1:
        p = float(stats.ttest_1samp(list(per_seed.values()), 0.0).pvalue) if found.half_width > 0 else 0.0
        if found.half_width == 0 and found.mean == 0:
            p = 1.0
    if found is None or found.n < 2:
        cost = costs.of_arms(claim.order) if costs else ""
        return Verdict(claim, found, p, printed, UNDECIDED, f"run {cost or 'it'}" if found is None else "more seeds")
    low, high = found.mean - found.half_width, found.mean + found.half_width
    if claim.margin is not None:
        verdict = AGREES if abs(low) < claim.margin and abs(high) < claim.margin else UNDECIDED
        verdict = DISAGREES if low > claim.margin or high < -claim.margin else verdict
        left = claim.margin - abs(found.mean)
    else:
        verdict = AGREES if low > 0 else DISAGREES if high < 0 else UNDECIDED
        left = abs(found.mean)
    decide = "" if verdict != UNDECIDED else _decide(found, left, claim.order, costs)
    return Verdict(claim, found, p, printed, verdict, decide)


def _decide(found: Estimate, effect: float, arms: Sequence[str], costs: "CellCosts | None") -> str:
    """How many seeds would make the interval narrower than the effect, if mean and spread stay as they are."""
    spread = found.half_width * math.sqrt(found.n) / float(stats.t.ppf(0.975, found.n - 1))
    for n in range(found.n + 1, MOST_SEEDS + 1):
        if float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n) < abs(effect):
            cost = costs.per_seed(arms) if costs else 0.0
            said = f", about {_hours(cost * (n - found.n))} more" if cost else ""
            return f"{n} seeds at this mean and spread{said}"
    width = float(stats.t.ppf(0.975, MOST_SEEDS - 1)) * spread / math.sqrt(MOST_SEEDS)
    return f"more than {MOST_SEEDS} seeds; these would show {width:.2g}, so a setting in which it matters more"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"


def _said(found: Estimate, percent: bool) -> str:
    digits = 2 if percent else 4
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:+.{digits}f}{interval}"
