"""Predicted against actual: time and memory of whole clusterings, by ``strata curate plan=true``'s model.

    python -m strata.experiments.benchmarks.plan

Each fit runs in a process of its own, on one thread. Time is CPU time: load of others does not enter. Memory is the
growth of the process's peak over what it was before ``fit``, compiled kernels warm.
"""

import argparse
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.cost.calibrate import measure
from strata.curation.cost.fit import cost_of_fit, peak_memory, total_seconds
from strata.experiments.benchmarks.kmeans_data import patch_embeddings, power_law_mixture
from strata.experiments.execute import git_commit

FACTOR = 2.0  # the bar


@dataclass(frozen=True)
class Case:
    """One fit."""

    data: str  # "mixture" (overlapping Gaussians), "patches" (embeddings of image patches) or "uniform"
    n: int
    d: int
    settings: dict[str, Any]


def three(k: list[int], **more: Any) -> dict[str, Any]:
    """Settings of a hierarchy with 5 resamplings above level 1."""
    settings = {"n_clusters": k, "n_resamples": [0] + [5] * (len(k) - 1), "resample_size": 3}
    return settings | more


CASES = [
    Case("mixture", 20_000, 64, three([400])),
    Case("mixture", 50_000, 32, three([1000, 200, 50])),
    Case("patches", 20_000, 256, three([1000, 200, 50])),
    Case("patches", 50_000, 128, three([2000, 400, 80], init="scalable")),
    Case("patches", 40_000, 64, three([100, 200, 50], n_splits=[20, 1, 1])),
    Case("uniform", 9_000, 2, {"n_clusters": [3000, 1000, 300], "n_resamples": 10, "resample_size": 2}),
    Case("mixture", 200_000, 64, three([500, 50], n_iter=20)),
    Case("mixture", 30_000, 64, three([300, 50], dtype="float64")),
]


def make(case: Case) -> np.ndarray:
    """The data of a case."""
    if case.data == "uniform":
        return np.random.default_rng(0).random((case.n, case.d), dtype=np.float32)
    return patch_embeddings(case.n, case.d) if case.data == "patches" else power_law_mixture(case.n, case.d)


def actual(case: Case) -> tuple[float, float]:
    """CPU seconds of a fit on one thread, and the bytes by which it raised the peak of this process."""
    import torch

    from strata.curation import HierarchicalKMeans

    torch.set_num_threads(1)
    X = make(case)
    warm = X[:1500].astype(case.settings.get("dtype", "float32"))  # loads the compiled kernels of both algorithms
    HierarchicalKMeans([70, 10], n_resamples=1, verbose=False).fit(warm)
    HierarchicalKMeans([510], algorithm="accelerated", init="scalable", verbose=False).fit(warm)
    before, began = _resident(), time.process_time()
    HierarchicalKMeans(**case.settings, verbose=False).fit(X)
    seconds = time.process_time() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 - before


def _resident() -> float:
    """Bytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


def predicted(case: Case) -> tuple[float, float, float]:
    """Seconds expected and at most, and peak bytes."""
    rates = measure()
    levels, worst = (cost_of_fit(case.n, case.d, case.settings, worst=slow) for slow in (False, True))
    return total_seconds(levels, rates), total_seconds(worst, rates), peak_memory(levels)


def compare(cases: list[Case]) -> str:
    """A Markdown report."""
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, one thread, CPU seconds; load {os.getloadavg()[0]:.1f}; "
        f"commit {git_commit()}.",
        "",
        "| data | n x d | settings | predicted s | at most s | actual s | actual / predicted | predicted MB "
        "| actual MB |",
        "|:--|--:|:--|--:|--:|--:|--:|--:|--:|",
    ]
    ratios = []
    for case in cases:
        expected, most, peak = predicted(case)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, grown = pool.submit(actual, case).result()
        ratios.append(seconds / expected)
        print(case, f"{seconds:.2f} s, {ratios[-1]:.2f} of predicted", flush=True)
        settings = ", ".join(f"{name} {value}" for name, value in case.settings.items())
        lines.append(
            f"| {case.data} | {case.n:,} x {case.d} | {settings} | {expected:.2f} | {most:.2f} | {seconds:.2f} "
            f"| {ratios[-1]:.2f} | {peak / 2**20:,.0f} | {grown / 2**20:,.0f} |"
        )
    inside = sum(1 / FACTOR <= ratio <= FACTOR for ratio in ratios)
    rates = ", ".join(f"{name} {value:.3g}" for name, value in asdict(measure()).items())
    lines += ["", f"Within a factor of {FACTOR:g}: {inside} of {len(ratios)}. Rates: {rates}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--write", type=Path, help="also write the report there, e.g. results/benchmarks/plan.md")
    given = parser.parse_args()
    report = compare(CASES[: given.cases])
    print(report)
    if given.write:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("# Plan against fit: `python -m strata.experiments.benchmarks.plan`\n\n" + report)


if __name__ == "__main__":
    main()
