"""The table of an experiment: arms x measures, mean and 95 % interval over seeds, paired differences to controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strata.experiments.comparison.columns import Column
from strata.experiments.comparison.statistics import Estimate, estimate, paired_difference
from strata.experiments.comparison.values import Value, by_seed

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


def data_columns(values: Sequence[Value]) -> list[str]:
    """What is said of each arm's data, as far as there is something to say."""
    found = {v.metric for v in values if v.group == "data"}
    return [name for name in _HEADS if name in found]


def build_tables(
    title: str,
    values: Sequence[Value],
    arms: Mapping[str, Any],
    controls: Sequence[str],
    columns: Sequence[Column],
    notes: Sequence[str] = (),
    cost: Cost | None = None,
) -> list[Table]:
    """The main table, then one of paired differences for each control arm.

    Args:
        title: the experiment's name.
        values: from ``results.collect``.
        arms: the arms in order of the rows.
        controls: arms that the others are compared with, e.g. ("raw", "random").
        columns: the scores that get a column; see ``columns.shown_columns``.
        notes: lines to add under the main table.
        cost: of cells that were not run.
    """
    data, seeds = data_columns(values), sorted({v.seed for v in values})
    rows = []
    for arm in arms:
        cells = [_data(by_seed(values, arm, "data", name), name) or missing(cost, arm, "data") for name in data]
        cells += [
            _score(column.of(values, arm), column) or missing(cost, arm, column.parts[0][0]) for column in columns
        ]
        rows.append([arm, *cells])
    lengths = ", lengths in m" if any(column.length for column in columns) else ""
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds; accuracies in %{lengths}."
    if len(seeds) < 2:
        note = f"One seed, so no interval: claim nothing from it. Accuracies in %{lengths}."
    heads = [column.name for column in columns]
    tables = [Table(title, ["arm", *[_HEADS[name] for name in data], *heads], rows, [note, *notes])]
    for control in controls:
        if control not in arms or not columns:
            continue
        rows = []
        for arm in arms:
            if arm != control:
                pairs = [(column, column.of(values, arm), column.of(values, control)) for column in columns]
                rows.append([arm, *[_difference(paired_difference(a, b), column) for column, a, b in pairs]])
        note = f"Points of accuracy{lengths}, paired by seed, 95 % t interval; * = the interval excludes zero."
        note = note if len(seeds) > 1 else f"Points of accuracy{lengths}, one seed."
        tables.append(Table(f"{title}: difference to {control}", ["arm", *heads], rows, [note]))
    return tables


def _data(values: dict[int, float], name: str) -> str:
    if not values:
        return ""
    found = estimate(list(values.values()))
    if name == "images":
        return f"{found.mean:,.0f}"
    digits = 1 if name == "effective_classes" else 3
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:.{digits}f}{interval}"


def _score(values: dict[int, float], column: Column) -> str:
    if not values:
        return ""
    found, digits = estimate(list(values.values())), column.digits
    interval = "" if found.n < 2 else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:.{digits}f}{interval}"


def missing(cost: Cost | None, arm: str, group: str) -> str:
    """The text of a cell without a value."""
    return not_run(cost(arm, group) if cost else "")


def not_run(cost: str = "") -> str:
    """ "not run", and what it would take."""
    return f"{NOT_RUN} ({cost})" if cost else NOT_RUN


def _difference(found: Estimate | None, column: Column) -> str:
    if found is None:
        return NOT_RUN
    if found.n < 2:
        return f"{found.mean:+.{column.digits}f}"
    return f"{found.mean:+.{column.digits}f} ± {found.half_width:.{column.digits}f}{'*' if found.excludes_zero else ''}"


def _tex(text: str) -> str:
    for plain, escaped in (("%", r"\%"), ("±", r"$\pm$"), ("_", r"\_"), ("&", r"\&")):
        text = text.replace(plain, escaped)
    return text
