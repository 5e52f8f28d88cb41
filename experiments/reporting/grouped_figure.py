"""The figure of arms that are the same ways on several pools: a panel per pool and metric, a line per way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strata.experiments.comparison.grouped_tables import ways_of
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.values import Value, by_seed
from strata.experiments.planning.plan import Run
from strata.experiments.store import Store


def draw_groups(plt: Any, runs: list[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """Rows: metrics (``figure.metrics``); columns: groups. Dots are seeds, bars the mean with its 95 % interval; the
    dashed line is the control's mean."""
    ways, control, metrics = ways_of(config), config["table"]["control"], config["figure"]["metrics"]
    measure = next(iter(config["measures"]))
    every = list(dict.fromkeys(way for arms in ways.values() for way in arms))
    size = (2.0 + 2.1 * len(ways), len(metrics) * (0.8 + 0.24 * len(every)))
    figure, axes = plt.subplots(len(metrics), len(ways), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for row, metric in enumerate(metrics):
        for column, (group, arms) in enumerate(ways.items()):
            axis = axes[row, column]
            for i, way in enumerate(every):
                seeds = list(by_seed(values, arms[way], measure, metric).values()) if way in arms else []
                if not seeds:
                    continue
                found = estimate(seeds)
                color = "C2" if way == control else "C0"
                axis.barh(i, found.mean, 0.7, color=color, alpha=0.45, xerr=np.nan_to_num(found.half_width), capsize=2)
                axis.scatter(seeds, np.full(len(seeds), i), s=4, color="black", zorder=3)
                if way == control:
                    axis.axvline(found.mean, ls="--", lw=0.8, color="C2")
            axis.set_yticks(range(len(every)), every, fontsize=8)
            axis.set_title(f"{group}\n{metric}", fontsize=9)
            axis.set_xlim(left=0)
            axis.tick_params(axis="x", labelsize=7)
    axes[0, 0].invert_yaxis()  # shared: the first way on top
    return figure
