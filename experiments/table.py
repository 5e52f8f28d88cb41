"""The table of an experiment: arms x measures, mean and 95 % interval over seeds, paired differences to controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strata.experiments.statistics import Estimate, estimate, paired_difference
from strata.experiments.values import Value

NOT_RUN = "not run"
Cost = Callable[[str, str], str]  # (arm, group) -> predicted time of what is not run, "" if nothing
_HEADS = {
    "images": "images",
    "normalized_entropy": "label entropy",
    "effective_classes": "effective classes",
    "coverage": "class coverage",
}


@dataclass(frozen=True)
class Table:
    """Cells as text, ready for Markdown, CSV, LaTeX or W&B."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def markdown(self) -> str:
        """GitHub Markdown, columns padded so that it reads well as plain text too."""
        cells = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        return "\n".join([f"**{self.title}**", "", *lines, "", *[f"{note}  " for note in self.notes]]) + "\n"

    def latex(self) -> str:
        """A booktabs table."""
        body = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in [self.columns, *self.rows]]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(self.title)}. {_tex(' '.join(self.notes))}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                r"\toprule",
                body[0],
                r"\midrule",
                *body[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def by_seed(values: Sequence[Value], arm: str, group: str, metric: str) -> dict[int, float]:
    """seed -> value of one cell; seeds that were not run are absent."""
    return {
        v.seed: v.value
        for v in values
        if v.arm == arm and v.group == group and v.metric == metric and v.value is not None
    }


def measures(values: Sequence[Value], shown: Sequence[str]) -> list[tuple[str, str]]:
    """(group, metric) of the table's columns: data first, then the metrics whose name ends in one of ``shown``."""
    found = dict.fromkeys((v.group, v.metric) for v in values)
    data = [("data", name) for name in _HEADS if ("data", name) in found]
    return data + [(g, m) for g, m in found if g != "data" and m.split(" ")[-1] in shown]


def build_tables(
    title: str,
    values: Sequence[Value],
    arms: Mapping[str, Any],
    controls: Sequence[str],
    shown: Sequence[str],
    notes: Sequence[str] = (),
    cost: Cost | None = None,
) -> list[Table]:
    """The main table, then one of paired differences for each control arm.

    Args:
        title: the experiment's name.
        values: from ``results.collect``.
        arms: the arms in order of the rows.
        controls: arms that the others are compared with, e.g. ("raw", "random").
        shown: metric names that get a column, e.g. ("top1",).
        notes: lines to add under the main table.
        cost: of cells that were not run.
    """
    columns = measures(values, shown)
    heads = ["arm", *[_HEADS.get(m, f"{m}, {g}") for g, m in columns]]
    seeds = sorted({v.seed for v in values})
    rows = [
        [arm, *[_cell(by_seed(values, arm, g, m), g, m) or missing(cost, arm, g) for g, m in columns]] for arm in arms
    ]
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds; accuracies in %."
    if len(seeds) < 2:
        note = "One seed, so no interval: claim nothing from it. Accuracies in %."
    tables = [Table(title, heads, rows, [note, *notes])]
    scores = [(g, m) for g, m in columns if g != "data"]
    for control in controls:
        if control not in arms or not scores:
            continue
        rows = []
        for arm in arms:
            if arm == control:
                continue
            differences = [
                paired_difference(by_seed(values, arm, g, m), by_seed(values, control, g, m)) for g, m in scores
            ]
            rows.append([arm, *[_difference(d) for d in differences]])
        note = "Points of accuracy, paired by seed, 95 % t interval; * = the interval excludes zero."
        note = note if len(seeds) > 1 else "Points of accuracy, one seed."
        tables.append(Table(f"{title}: difference to {control}", ["arm", *heads[-len(scores) :]], rows, [note]))
    return tables


def _cell(values: dict[int, float], group: str, metric: str) -> str:
    if not values:
        return ""
    found = estimate(list(values.values()))
    if metric == "images":
        return f"{found.mean:,.0f}"
    scale, digits = (100.0, 1) if group != "data" else (1.0, 1 if metric == "effective_classes" else 3)
    interval = "" if found.n < 2 else f" ± {found.half_width * scale:.{digits}f}"
    return f"{found.mean * scale:.{digits}f}{interval}"


def missing(cost: Cost | None, arm: str, group: str) -> str:
    """The text of a cell without a value."""
    return not_run(cost(arm, group) if cost else "")


def not_run(cost: str = "") -> str:
    """ "not run", and what it would take."""
    return f"{NOT_RUN} ({cost})" if cost else NOT_RUN


def _difference(found: Estimate | None) -> str:
    if found is None:
        return NOT_RUN
    if found.n < 2:
        return f"{100 * found.mean:+.1f}"
    return f"{100 * found.mean:+.1f} ± {100 * found.half_width:.1f}{'*' if found.excludes_zero else ''}"


def _tex(text: str) -> str:
    for plain, escaped in (("%", r"\%"), ("±", r"$\pm$"), ("_", r"\_"), ("&", r"\&")):
        text = text.replace(plain, escaped)
    return text
