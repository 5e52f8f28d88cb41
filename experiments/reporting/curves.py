"""Training curves of an experiment's arms in one picture."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from strata.experiments.planning.plan import Plan
from strata.experiments.reporting.figure import COLORS
from strata.experiments.store import Store

SHOWN = 6  # measures, those that most runs have first
_LAST = ("lr", "weight_decay", "momentum", "per_s", "_s", "epoch", "eta", "fraction")  # of the recipe or the machine
Curves = dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]]  # measure -> arm -> (steps, values) of each seed


def read_curves(plan: Plan, store: Store) -> Curves:
    """``metrics.jsonl`` of every finished training: measure -> arm -> (steps, values) by seed."""
    found: Curves = {}
    for run in plan.runs:
        if run.pretrain is None:
            continue
        file = store.path(run.pretrain) / "metrics.jsonl"
        if not file.is_file():
            continue
        for name, (steps, values) in _series(file).items():
            found.setdefault(name, {}).setdefault(run.arm, []).append((steps, values))
    return found


def _series(file: Path) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for line in file.read_text().splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                points.setdefault(name, []).append((record["step"], value))
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in points.items() if len(pairs) > 1}


def draw_curves(plan: Plan, store: Store) -> bytes:
    """A PNG: a panel per measure, a line per arm (mean over seeds, band from least to largest). Empty without any."""
    curves = read_curves(plan, store)
    named = sorted(curves, key=lambda name: (name.endswith(_LAST), -sum(map(len, curves[name].values())), name))[:SHOWN]
    if not named:
        return b""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(named))
    rows = -(-len(named) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, name in zip(axes, named, strict=False):
        for i, (arm, seeds) in enumerate(curves[name].items()):
            steps = seeds[0][0]
            values = np.stack([np.interp(steps, *series) for series in seeds])
            color = COLORS.get(arm, f"C{i}")
            axis.plot(steps, values.mean(axis=0), color=color, label=arm, linewidth=1.4)
            axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
    for axis in axes[len(named) :]:
        axis.set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()
