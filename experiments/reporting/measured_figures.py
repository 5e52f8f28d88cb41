"""Figures of experiments without training: clouds in 2-D (Fig. 3), densities on a line (Fig. 2), classes (Fig. 4), the tree
of clusters (Fig. 5), groups of arms."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from strata.curation import EmbeddingStore
from strata.curation.clusters_per_class import fit_line
from strata.curation.density_exponent import run_density
from strata.curation.uniformity import density_2d
from strata.experiments.comparison.columns import columns_of, paper_of
from strata.experiments.comparison.printed import SOURCES
from strata.experiments.comparison.statistics import estimate
from strata.experiments.comparison.values import Value, by_seed
from strata.experiments.planning.plan import Plan, Run
from strata.experiments.reporting.grouped_figure import draw_groups
from strata.experiments.reporting.tree_figure import draw_tree
from strata.experiments.stages.measure import read_points
from strata.experiments.store import Store


def draw_measured(plan: Plan, store: Store, values: Sequence[Value], config: Mapping[str, Any], path: Path) -> None:
    """The figure that ``config.figure.kind`` names, of the first seed's points and all seeds' numbers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first = [run for run in plan.runs if run.seed == plan.runs[0].seed]
    first = [run for run in first if all(store.done(stage) for stage in run.scores.values())]
    figure = KINDS[config["figure"]["kind"]](plt, first, store, values, config) if first else plt.figure()
    figure.suptitle(config["figure"]["title"])
    for file in (path, path.with_suffix(".svg")):
        figure.savefig(file, dpi=130)
    plt.close(figure)


def _clouds(plt: Any, runs: list[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """A panel per arm: kernel density and points of one seed; last, bars of all seeds beside the paper's."""
    columns = 5
    rows = -(-len(runs) // columns)
    figure = plt.figure(figsize=(2.6 * columns, 2.75 * rows + 3.4), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[2.75] * rows + [3.4])
    for i, run in enumerate(runs):
        axis = figure.add_subplot(grid[i // columns, i % columns])
        points, _ = _points(run, store)
        density = density_2d(points, step=0.1)
        extent = (-3, 3, -3, 3)
        # The scale of every panel is the uniform density: 2 is twice as dense.
        image = axis.imshow(density.T * density.size, origin="lower", extent=extent, vmin=0, vmax=3, cmap="viridis")
        shown = points[np.random.default_rng(0).permutation(len(points))[:1000]]
        axis.scatter(*shown.T, s=1.5, color="white", alpha=0.7, linewidths=0)
        found = estimate(list(by_seed(values, run.arm, *_main(values, config)).values()))
        axis.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
        axis.set_title(f"{run.arm}\nKL {found.mean:.3f}, {len(points):,} points", fontsize=9)
    figure.colorbar(image, ax=figure.axes, label="density / uniform density", shrink=0.6)
    bars = figure.add_subplot(grid[rows, :])
    _bars(bars, values, config)
    bars.set_yscale("log")
    return figure


def _lines(plt: Any, runs: list[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """Left: density of the data and of each arm's centroids, one seed. Right: exponents of all seeds and of theory."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    data = _points(runs[0], store)[1][:, 0]
    axes[0].hist(data, bins=200, density=True, color="#dddddd", label="data p")
    for run in runs:
        points, _ = _points(run, store)
        if len(points) == len(data):
            continue  # the pool itself is the gray area
        ends, q = run_density(points, 60)
        axes[0].stairs(q, ends, label=run.arm, lw=1.4)
    axes[0].set(xlabel="x", ylabel="density", ylim=(0, None))
    axes[0].legend(frameon=False, fontsize=8)
    _bars(axes[1], values, config)
    return figure


def _classes(plt: Any, runs: list[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """A panel per arm and measure: clusters of each class against its items, one seed, with the fitted line."""
    measures = list(config["figure"].get("measures") or config["measures"])
    arms = [run.arm for run in runs]
    wide = int(config["figure"].get("columns") or len(arms))
    tall = len(measures) * -(-len(arms) // wide)
    figure, axes = plt.subplots(tall, wide, figsize=(3.1 * wide, 2.9 * tall), layout="constrained", squeeze=False)
    for m, measure in enumerate(measures):
        for i, run in enumerate(runs):
            axis = axes[(i // wide) * len(measures) + m, i % wide]
            table = pq.read_table(store.path(run.scores[measure, ""]) / "columns.parquet").to_pydict()
            x, y = np.array(table["items"]), np.array(table["clusters"])
            line = fit_line(x, y)
            jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(y))  # counts are whole and hide each other
            axis.scatter(x, y + jitter, s=8, alpha=0.6, linewidths=0)
            ends = np.array([x.min(), x.max()])
            axis.plot(ends, line.intercept + line.slope * ends, color="C1")
            axis.set_title(f"{run.arm}, {measure}\nr = {line.correlation:.2f}", fontsize=9)
            axis.set(xlabel="images of the class", ylabel="clusters")
    return figure


def _bars_only(plt: Any, runs: list[Run], store: Store, values: Sequence[Value], config: Mapping[str, Any]) -> Any:
    """The first metric of every arm, beside the paper's."""
    figure, axis = plt.subplots(figsize=(2 + 0.8 * len(config["arms"]), 4.5), layout="constrained")
    _bars(axis, values, config)
    return figure


KINDS: dict[str, Callable[..., Any]] = {
    "clouds": _clouds, "lines": _lines, "classes": _classes, "groups": draw_groups, "bars": _bars_only, "tree": draw_tree,
}  # fmt: skip


def _bars(axis: Any, values: Sequence[Value], config: Mapping[str, Any]) -> None:
    """Ours with interval and dots per seed, and the paper's numbers, arm by arm."""
    group, metric = _main(values, config)
    sources = _printed(config, group, metric)
    arms, width = list(config["arms"]), 0.8 / (1 + len(sources))
    for i, arm in enumerate(arms):
        seeds = list(by_seed(values, arm, group, metric).values())
        if seeds:
            found = estimate(seeds)
            axis.bar(i, found.mean, width, yerr=np.nan_to_num(found.half_width), color="C0", capsize=3)
            axis.scatter(np.full(len(seeds), i), seeds, s=6, color="black", zorder=3)
            top = max(found.mean + np.nan_to_num(found.half_width), *seeds)
            axis.annotate(f"{found.mean:.3f}", (i, top), (0, 3), textcoords="offset points", ha="center", size=8)
    for j, (source, by_arm) in enumerate(sources.items(), 1):
        at = [arms.index(arm) + j * width for arm in by_arm]
        axis.bar(at, list(by_arm.values()), width, color=f"C{j}", alpha=0.55, label=f"paper, {source}")
    axis.bar(0, 0, color="C0", label="ours, mean and 95 % interval")
    axis.set_xticks(range(len(arms)), arms, rotation=25, ha="right", rotation_mode="anchor", fontsize=8)
    axis.margins(y=0.12)
    axis.set_ylabel(metric)
    axis.legend(frameon=False)


def _printed(config: Mapping[str, Any], group: str, metric: str) -> dict[str, dict[str, float]]:
    """source -> arm -> the paper's number of a metric."""
    paper = paper_of(config)
    found: dict[str, dict[str, float]] = {}
    for column in columns_of(config).values():
        if column.parts == ((group, metric),):
            for arm in paper.arms:
                for number in paper.numbers(arm, column):
                    value = number.value / 100.0 if number.percent else number.value
                    found.setdefault(SOURCES[number.source], {})[arm] = value
    return found


def _main(values: Sequence[Value], config: Mapping[str, Any]) -> tuple[str, str]:
    """Group and name of the first metric of the table."""
    metric = config["table"]["metrics"][0]
    return next((v.group, v.metric) for v in values if v.metric == metric)


def _points(run: Run, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Points of an arm (the first draw) and all rows of its pool."""
    stage = next(iter(run.scores.values()))
    data = np.asarray(EmbeddingStore.open(store.path(stage.inputs["embeddings"])), np.float64)
    chosen = stage.inputs.get("points")
    points, _, n_draws = read_points(None if chosen is None else store.path(chosen), data)
    return np.split(points, n_draws)[0], data
