"""The figure of an experiment: how balanced each arm's data is, and what each arm scored."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from strata.experiments.comparison.columns import Column
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.values import Value
from strata.experiments.planning.plan import Plan
from strata.experiments.store import Store

COLORS = {
    "raw": "#7f7f7f", "random": "#c49c94", "random_tokens": "#e377c2", "hand": "#2ca02c", "flat": "#ff7f0e",
    "hierarchical": "#1f77b4", "4r": "#1f77b4",
}  # fmt: skip


def draw(title: str, plan: Plan, store: Store, values: Sequence[Value], columns: Sequence[Column], path: Path) -> None:
    """First the share of each class per arm, largest first; then a panel per column: a dot per seed, mean and 95 % interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import to_hex

    arms = list(dict.fromkeys(run.arm for run in plan.runs))
    tab20 = [to_hex(plt.get_cmap("tab20")(i)) for i in (*range(0, 20, 2), *range(1, 20, 2))]  # the strong ones first
    others = itertools.cycle(color for color in tab20 if color not in {COLORS.get(arm) for arm in arms})
    colors = {arm: COLORS.get(arm) or next(others) for arm in arms}
    # Few arms stand on the x axis, a panel beside the other; many are rows, so that their names can be read
    many = len(arms) > 6
    wide = min(1 + len(columns), 4)
    tall = -(-(1 + len(columns)) // wide)
    size = (4.6 * wide, tall * (1.2 + 0.26 * len(arms))) if many else (1.8 + 3.2 * wide, 4.0 * tall)
    figure, grid = plt.subplots(tall, wide, figsize=size, layout="constrained", squeeze=False)
    axes = list(grid.ravel())
    _balance(axes[0], plan, store, colors)
    for axis, column in zip(axes[1:], columns, strict=False):
        _scores(axis, column, values, arms, colors, rows=many)
    for axis in axes[1 + len(columns) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    for file in (path, path.with_suffix(".svg")):
        figure.savefig(file, dpi=130)
    plt.close(figure)


def _balance(axis: Any, plan: Plan, store: Store, colors: Mapping[str, Any]) -> None:
    for run in plan.runs:
        subset = store.path(run.sample) / "subset.parquet"
        if run.seed != plan.runs[0].seed or not subset.is_file():
            continue
        if "label" not in pq.read_schema(subset).names:
            continue
        labels = pq.read_table(subset, columns=["label"])["label"].to_numpy()
        counts = np.sort(np.bincount(labels[labels >= 0]))[::-1]
        axis.plot(np.arange(1, len(counts) + 1), counts / counts.sum(), label=run.arm, color=colors[run.arm])
    axis.set(xscale="log", yscale="log", xlabel="class, by size", ylabel="share of the arm's images")
    axis.set_title("balance of the training data")
    if axis.lines:
        axis.legend(frameon=False, fontsize=8, ncols=1 + (len(axis.lines) > 8))


def _scores(
    axis: Any, column: Column, values: Sequence[Value], arms: Sequence[str], colors: Mapping[str, Any], rows: bool
) -> None:
    for i, arm in enumerate(arms):
        points = np.array(list(column.of(values, arm).values()))
        if not len(points):
            continue
        found = estimate(list(points))
        half, style = np.nan_to_num(found.half_width), {"color": colors[arm], "capsize": 3}
        if rows:
            axis.scatter(points, np.full(len(points), i), color=colors[arm], s=14, zorder=3)
            axis.errorbar(found.mean, i + 0.25, xerr=half, fmt="|", **style)
        else:
            axis.scatter(np.full(len(points), i), points, color=colors[arm], s=18, zorder=3)
            axis.errorbar(i + 0.2, found.mean, yerr=half, fmt="_", **style)
    if rows:
        axis.set_yticks(range(len(arms)), arms, fontsize=8)
        axis.set_ylim(len(arms) - 0.5, -0.5)
    else:
        axis.set_xticks(range(len(arms)), arms, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_title(f"{column.name}{' [%]' if column.percent else ''}", fontsize=10)
    axis.grid(axis="x" if rows else "y", alpha=0.3)
