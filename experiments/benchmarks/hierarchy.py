"""A whole fit of three levels with resampling, and what each of its phases takes.

    python -m strata.experiments.benchmarks.hierarchy

1,000,000 points of 64 values in 10,000, 1,000 and 100 clusters, five resamplings a level (Algorithm 1 of the paper). The
clock hangs on the functions of ``curation.kmeans`` that are the phases; a phase is never a loop of Python over clusters.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strata.curation import HierarchicalKMeans
from strata.curation.kmeans import flat, level
from strata.experiments.benchmarks.kmeans_data import power_law_mixture
from strata.experiments.benchmarks.peak import cpu_and_wall

# phase -> where the engine looks its function up; "k-means" holds "seeds"
PHASES = {
    "seeds": (flat, "initial_centroids"),
    "k-means": (level, "cluster"),
    "points that resampling keeps": (level, "resampled_rows"),
    "assignment of all points after it": (level, "nearest_of_all"),
}
Times = list[tuple[str, int, float, float]]  # phase, level, CPU and wall seconds


@contextmanager
def clocked(times: Times) -> Iterator[None]:
    """Append what each call of a phase takes."""
    number = 0
    begun = level.fit_level

    def on_level(*args: Any, **kwargs: Any) -> Any:
        nonlocal number
        number += 1
        return begun(*args, **kwargs)

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            cpu, wall = cpu_and_wall()
            found = function(*args, **kwargs)
            after = cpu_and_wall()
            times.append((phase, number, after[0] - cpu, after[1] - wall))
            return found

        return call

    from strata.curation import hierarchical_kmeans

    kept = {phase: getattr(*place) for phase, place in PHASES.items()}
    hierarchical_kmeans.fit_level = on_level
    for phase, (module, name) in PHASES.items():
        setattr(module, name, timed(phase, kept[phase]))
    try:
        yield
    finally:
        hierarchical_kmeans.fit_level = begun
        for phase, (module, name) in PHASES.items():
            setattr(module, name, kept[phase])


def table(n: int, d: int, n_clusters: tuple[int, ...], n_resamples: int) -> str:
    """Fit, and tell each level's phases as Markdown."""
    X = power_law_mixture(n, d)
    HierarchicalKMeans(n_clusters=(600, 20), n_resamples=1, device="cpu").fit(X[:20_000])  # kernels are compiled
    times: Times = []
    began, cpu = time.perf_counter(), cpu_and_wall()[0]
    with clocked(times):
        model = HierarchicalKMeans(n_clusters=n_clusters, n_resamples=n_resamples, device="cpu", random_state=0).fit(X)
    wall, cpu = time.perf_counter() - began, cpu_and_wall()[0] - cpu
    lines = [
        f"### N={n:,} d={d}, {' > '.join(f'{k:,}' for k in n_clusters)} clusters, {n_resamples} resamplings a level",
        f"{cpu:.1f} CPU-s and {wall:.1f} s in all, {torch.get_num_threads()} thread(s).",
        "",
        "| level | phase | calls | CPU-s | wall s | share of CPU |",
        "|---|---|---|---|---|---|",
    ]
    accounted = 0.0
    for number in range(1, len(n_clusters) + 1):
        for phase in PHASES:
            own = [row for row in times if row[:2] == (phase, number)]
            seconds, spent = sum(row[2] for row in own), sum(row[3] for row in own)
            if phase == "k-means":  # less its seeds
                seeds = [row for row in times if row[:2] == ("seeds", number)]
                seconds, spent = seconds - sum(row[2] for row in seeds), spent - sum(row[3] for row in seeds)
            accounted += seconds
            name = "iterations and last assignment" if phase == "k-means" else phase
            lines.append(
                f"| {number} | {name} | {len(own)} | {seconds:.2f} | {spent:.2f} | {100 * seconds / cpu:.1f} % |"
            )
    lines.append(
        f"| | reading, centering, labels, all else | | {cpu - accounted:.2f} | | {100 * (1 - accounted / cpu):.1f} % |"
    )
    runs = []
    for number, fit in enumerate(model.levels_, start=1):
        ratios = np.round(np.array(fit.inertias) / fit.inertias[0], 3).tolist()
        runs.append(f"Level {number}: updates {fit.n_iter}, inertia {ratios} of the first run's.")
    return "\n".join([*lines, "", *runs]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/hierarchy.md"))
    given = parser.parse_args(arguments)
    text = table(3_000, 8, (100, 20, 5), 1) if given.tiny else table(1_000_000, 64, (10_000, 1_000, 100), 5)
    print(text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text)


if __name__ == "__main__":
    main()
