"""The figure of a text experiment: balance, held-out bits per byte and benchmarks of each arm, a column per pool."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from strata.experiments.comparison.grouped_tables import ways_of
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.values import Value, by_seed
from strata.experiments.reporting.figure import COLORS
from strata.experiments.text.tables import columns_of


def draw_text(values: Sequence[Value], config: Mapping[str, Any], path: Path) -> None:
    """Rows: effective sources, mean bits per byte over the held-out pools, mean of the tasks; a dot per seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ways = ways_of(config)
    rows = [
        ("effective sources", [("", "data", "effective_sources")], 1.0),
        ("bits per byte, held-out pools", columns_of(config, "held_out"), 1.0),
        ("tasks, mean [%]", columns_of(config, "tasks"), 100.0),
    ]
    rows = [row for row in rows if row[1]]
    size = (4.2 * len(ways), 2.6 * len(rows))
    figure, axes = plt.subplots(len(rows), len(ways), figsize=size, layout="constrained", squeeze=False, sharey="row")
    for j, (group, arms) in enumerate(ways.items()):
        for i, (title, columns, scale) in enumerate(rows):
            for place, (way, arm) in enumerate(arms.items()):
                points = scale * np.array(_means(values, arm, [(g, m) for _, g, m in columns]))
                if not len(points):
                    continue
                color = COLORS.get(way, f"C{place}")
                found = estimate(list(points))
                axes[i, j].scatter(np.full(len(points), place), points, color=color, s=16, zorder=3)
                half = np.nan_to_num(found.half_width)
                axes[i, j].errorbar(place + 0.2, found.mean, yerr=half, color=color, fmt="_", capsize=4)
            axes[i, j].set_xticks(range(len(arms)), list(arms), rotation=30, ha="right")
            axes[i, j].grid(axis="y", alpha=0.3)
            if not j:
                axes[i, j].set_ylabel(title)
        axes[0, j].set_title(group)
    figure.suptitle(config["name"])
    for file in (path, path.with_suffix(".svg")):
        figure.savefig(file, dpi=130)
    plt.close(figure)


def _means(values: Sequence[Value], arm: str, columns: Sequence[tuple[str, str]]) -> list[float]:
    """For each seed that has them all, the mean over columns."""
    found = [by_seed(values, arm, group, metric) for group, metric in columns]
    shared = set.intersection(*(set(each) for each in found)) if found else set()
    return [float(np.mean([each[seed] for each in found])) for seed in sorted(shared)]
