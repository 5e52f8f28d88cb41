"""The table of an experiment: arms x measures, mean and 95 % interval over seeds, paired differences to controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strata.experiments.results import Value
from strata.experiments.statistics import Estimate, estimate, paired_difference

NOT_RUN = "not run"
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


@dataclass(frozen=True)
class Unit:
    """How the values of a metric are printed: times ``scale``, with so many digits, and what the unit is."""

    scale: float
    digits: int
    name: str


_METRES, _R2, _PERCENT = Unit(1.0, 1, "m"), Unit(1.0, 3, ""), Unit(100.0, 1, "%")
_UNITS = {"mae": _METRES, "rmse": _METRES, "bias": _METRES, "r2": _R2, "block_r2": _R2}  # of protocol height


def unit_of(metric: str) -> Unit:
    """Accuracies are in percent; heights in metres, R2 as it is, also on shifted test sets (``mae_ood``)."""
    protocol, _, name = metric.partition(" ")
    if protocol.startswith("height-"):
        return next(unit for base, unit in _UNITS.items() if name == base or name.startswith(f"{base}_"))
    return _PERCENT


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
) -> list[Table]:
    """The main table, then one of paired differences for each control arm.

    Args:
        title: the experiment's name.
        values: from ``results.collect``.
        arms: the arms in order of the rows.
        controls: arms that the others are compared with, e.g. ("raw", "random").
        shown: metric names that get a column, e.g. ("top1",).
        notes: lines to add under the main table.
    """
    columns = measures(values, shown)
    heads = ["arm", *[_HEADS.get(m, f"{m}, {g}") for g, m in columns]]
    seeds = sorted({v.seed for v in values})
    rows = [[arm, *[cell(by_seed(values, arm, g, m), g, m) for g, m in columns]] for arm in arms]
    heights = "; heights in m" if any(unit_of(m) is not _PERCENT for g, m in columns if g != "data") else ""
    note = f"Mean ± half-width of the 95 % t interval over {len(seeds)} seeds; accuracies in %{heights}."
    if len(seeds) < 2:
        note = f"One seed, so no interval: claim nothing from it. Accuracies in %{heights}."
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
            rows.append([arm, *[difference(d, m) for d, (_, m) in zip(differences, scores, strict=True)]])
        what = f"Points of accuracy{heights and ', and heights in m'}"
        note = f"{what}, paired by seed, 95 % t interval; * = the interval excludes zero."
        note = note if len(seeds) > 1 else f"{what}, one seed."
        tables.append(Table(f"{title}: difference to {control}", ["arm", *heads[-len(scores) :]], rows, [note]))
    return tables


def cell(values: dict[int, float], group: str, metric: str) -> str:
    """Mean and interval of a cell's seeds."""
    if not values:
        return NOT_RUN
    found = estimate(list(values.values()))
    if metric == "images":
        return f"{found.mean:,.0f}"
    unit = unit_of(metric)
    scale, digits = unit.scale, unit.digits
    if group == "data":
        scale, digits = 1.0, 1 if metric == "effective_classes" else 3
    interval = "" if found.n < 2 else f" ± {found.half_width * scale:.{digits}f}"
    return f"{found.mean * scale:.{digits}f}{interval}"


def difference(found: Estimate | None, metric: str) -> str:
    """A paired difference as a cell."""
    if found is None:
        return NOT_RUN
    unit = unit_of(metric)
    mean = f"{unit.scale * found.mean:+.{unit.digits}f}"
    if found.n < 2:
        return mean
    return f"{mean} ± {unit.scale * found.half_width:.{unit.digits}f}{'*' if found.excludes_zero else ''}"


def _tex(text: str) -> str:
    for plain, escaped in (("%", r"\%"), ("±", r"$\pm$"), ("_", r"\_"), ("&", r"\&")):
        text = text.replace(plain, escaped)
    return text
