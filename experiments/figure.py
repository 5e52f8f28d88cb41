"""The figure of an experiment: how balanced each arm's data is, and what each arm scored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from strata.experiments.plan import Plan
from strata.experiments.results import Value
from strata.experiments.statistics import estimate
from strata.experiments.store import Store
from strata.experiments.table import by_seed, measures, unit_of

COLORS = {"raw": "#7f7f7f", "random": "#c49c94", "hand": "#2ca02c", "flat": "#ff7f0e", "hierarchical": "#1f77b4"}


def draw(title: str, plan: Plan, store: Store, values: Sequence[Value], shown: Sequence[str], path: Path) -> None:
    """Left: share of each class per arm, largest first. Right: scores, a dot per seed, mean and 95 % interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    arms = list(dict.fromkeys(run.arm for run in plan.runs))
    scores = [column for column in measures(values, shown) if column[0] != "data"]
    colors = {arm: COLORS.get(arm, f"C{i}") for i, arm in enumerate(arms)}
    figure, axes = plt.subplots(1, 1 + len(scores), figsize=(5 + 3.2 * len(scores), 4), layout="constrained")
    axes = np.atleast_1d(axes)
    for run in plan.runs:
        subset = store.path(run.sample) / "subset.parquet"
        if run.seed != plan.runs[0].seed or not subset.is_file():
            continue
        if "label" not in pq.read_schema(subset).names:
            continue
        labels = pq.read_table(subset, columns=["label"])["label"].to_numpy()
        counts = np.sort(np.bincount(labels[labels >= 0]))[::-1]
        axes[0].plot(np.arange(1, len(counts) + 1), counts / counts.sum(), label=run.arm, color=colors[run.arm])
    axes[0].set(xscale="log", yscale="log", xlabel="class, by size", ylabel="share of the arm's images")
    axes[0].set_title("balance of the training data")
    if axes[0].lines:
        axes[0].legend(frameon=False)
    for axis, (group, metric) in zip(axes[1:], scores, strict=True):
        for i, arm in enumerate(arms):
            seeds = by_seed(values, arm, group, metric)
            if not seeds:
                continue
            points = unit_of(metric).scale * np.array(list(seeds.values()))
            found = estimate(list(points))
            axis.scatter(np.full(len(points), i), points, color=colors[arm], s=18, zorder=3)
            axis.errorbar(
                i + 0.2, found.mean, yerr=np.nan_to_num(found.half_width), color=colors[arm], fmt="_", capsize=4
            )
        axis.set_xticks(range(len(arms)), arms, rotation=30, ha="right")
        unit = unit_of(metric).name
        axis.set_title(f"{metric}\n{group}" + (f" [{unit}]" if unit else ""))
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
