"""Ours beside the paper's: every number, its difference, and whether the direction of each effect agrees."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from strata.experiments.comparison.columns import Column, Paper, columns_of, paper_of
from strata.experiments.comparison.printed import SOURCES
from strata.experiments.comparison.statistics import Estimate, estimate, paired_difference
from strata.experiments.comparison.table import NOT_RUN, Table, not_run
from strata.experiments.comparison.values import Value
from strata.experiments.planning.cell_costs import CellCosts

HEADS = ["measure", "arm", "ours", "paper", "ours - paper", "compared with", "difference, ours", "p", "p (Holm)",
         "difference, paper", "direction agrees"]  # fmt: skip


def beside_paper(values: Sequence[Value], config: Mapping[str, Any], costs: CellCosts | None = None) -> list[Table]:
    """A row per column and arm of ``columns``; none if the config has no columns, or the paper no table of it."""
    columns, paper = columns_of(config), paper_of(config)
    if not columns or not paper.file:
        return []
    rows, tested = [], []
    for column in columns.values():
        for arm in config["arms"]:
            row, p = _row(column, arm, values, config, paper, costs)
            rows.append(row)
            tested.append(p)
    for row, corrected in zip(rows, holm(tested), strict=True):
        row[8] = "" if np.isnan(corrected) else f"{corrected:.3f}"
    sources = {
        number.source for arm in paper.arms for column in columns.values() for number in paper.numbers(arm, column)
    }
    notes = [
        f"Paper: arXiv:2405.15613 (TMLR 08/2024), results/paper/{paper.file}.csv "
        f"({', '.join(f'{source} = {SOURCES[source]}' for source in sorted(sources)) or 'nothing of it has these names'}).",
        "Differences are paired by seed, with the 95 % t interval and the p of the paired t test, as it is and by Holm over "
        "this table; yes or no only where the interval excludes zero.",
        *[order_note(column, values, config, paper) for column in columns.values()],
    ]
    return [Table(f"{config['name']}: beside the paper", HEADS, rows, [note for note in notes if note])]


def compared_with(config: Mapping[str, Any], arm: str) -> str | None:
    """The arm that an arm is compared with: as ``table.compare`` says, else the first of ``table.controls``."""
    compare = config["table"].get("compare")
    if compare is not None:
        control = compare.get(arm)
        return control if control in config["arms"] else None
    controls = [control for control in config["table"].get("controls") or [] if control in config["arms"]]
    return controls[0] if controls and controls[0] != arm else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN are no tests and stay.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    corrected, tested = [float("nan")] * len(p_values), [i for i, p in enumerate(p_values) if not np.isnan(p)]
    worst = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(tested) - rank) * p_values[i]))
        corrected[i] = worst
    return corrected


def paired_p(ours: dict[int, float], control: dict[int, float]) -> float:
    """Of the paired t test over the seeds that both have; NaN with fewer than two, or where nothing varies."""
    shared = sorted(ours.keys() & control.keys())
    differences = np.array([ours[seed] - control[seed] for seed in shared])
    if len(shared) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def direction(found: Estimate | None, theirs: float) -> str:
    """Whether our difference has the sign of theirs: only said where its interval excludes zero."""
    if found is None:
        return NOT_RUN
    agrees = "yes" if found.mean * theirs > 0 else "no"
    return agrees if found.excludes_zero else f"not decided ({agrees} by the means)"


def order_note(column: Column, values: Sequence[Value], config: Mapping[str, Any], paper: Paper) -> str:
    """One sentence: how many pairs of arms (of those compared with the same arm) stand in the paper's order."""
    ours = {arm: column.of(values, arm) for arm in paper.arms}
    printed = {arm: paper.value(arm, column) for arm in paper.arms}
    means = {
        arm: estimate(list(seeds.values())).mean for arm, seeds in ours.items() if seeds and printed[arm] is not None
    }
    group = {arm: compared_with(config, arm) or arm for arm in means}
    pairs = [(a, b) for a, b in itertools.combinations(means, 2) if group[a] == group[b] and printed[a] != printed[b]]
    wrong = [(a, b) for a, b in pairs if (means[a] - means[b]) * ((printed[a] or 0.0) - (printed[b] or 0.0)) <= 0]
    if not pairs:
        return ""
    listed = "".join(f"; differs: {a} {means[a]:.4g}, {b} {means[b]:.4g}" for a, b in wrong[:4])
    listed += f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    return (
        f"Order of the arms by {column.name}: {len(pairs) - len(wrong)} of {len(pairs)} pairs as in the paper{listed}."
    )


def _row(
    column: Column, arm: str, values: Sequence[Value], config: Mapping[str, Any], paper: Paper, costs: CellCosts | None
) -> tuple[list[str], float]:
    ours, theirs = column.of(values, arm), paper.value(arm, column)
    row = [column.name, arm, _mean(ours, column, costs, arm), "; ".join(
        f"{number.value:g}" + (f" {number.source}" if number.source != "PDF" else "") for number in paper.numbers(arm, column)
    )]  # fmt: skip
    here = estimate(list(ours.values())) if ours else None
    row.append("" if here is None or theirs is None else f"{here.mean - theirs:+.{_digits(column)}f}")
    control = compared_with(config, arm)
    if control is None:
        return [*row, "", "", "", "", "", ""], float("nan")
    against = column.of(values, control)
    found, p = paired_difference(ours, against), paired_p(ours, against)
    digits = _digits(column)
    said = NOT_RUN if found is None else f"{found.mean:+.{digits}f}"
    said += "" if found is None or found.n < 2 else f" ± {found.half_width:.{digits}f}"
    printed = paper.value(control, column)
    row += [control, said, "" if np.isnan(p) else f"{p:.3f}", ""]
    if theirs is None or printed is None:
        return [*row, "", ""], p
    return [*row, f"{theirs - printed:+.4g}", direction(found, theirs - printed)], p


def _digits(column: Column) -> int:
    return 1 if column.percent else 4


def _mean(seeds: dict[int, float], column: Column, costs: CellCosts | None, arm: str) -> str:
    if not seeds:
        cost = costs.cell(arm, column.parts[0][0]) if costs else ""
        return not_run(cost)
    found, digits = estimate(list(seeds.values())), _digits(column)
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:.{digits}f}{interval}"
