"""Time to draw a balanced subset: ours against one Python call per node, on the same tree, runs interleaved.

    python -m strata.experiments.benchmarks.sampling

By default 1,000,000 points in 100,000 / 10,000 / 1,000 clusters and 100,000 drawn. The bar is 0.25 s.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.hierarchy import Hierarchy
from strata.curation.stratified import StratifiedBatchSampler
from strata.experiments.execute import git_commit

BAR = 0.25  # seconds


class PerNode:
    """The paper's sampling as a recursion, one call per node: what a vectorized one replaces.

    Like the authors' code it starts from lists of members and sizes that were made when the tree was loaded.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.members = [np.split(level.order, level.offsets[1:-1]) for level in hierarchy.levels]
        self.sizes = [hierarchy.sizes(level + 1) for level in range(hierarchy.n_levels)]

    def sample(self, n: int, within: str, seed: int) -> NDArray[np.int64]:
        """Rows [n], in the order of the tree."""
        rng, top = np.random.default_rng(seed), len(self.members) - 1
        parts: list[NDArray[np.int64]] = []
        for node, share in enumerate(self.share(n, self.sizes[top], rng)):
            self.visit(top, node, share, within, rng, parts)
        return np.concatenate(parts)

    def visit(
        self, level: int, node: int, n: int, within: str, rng: np.random.Generator, parts: list[NDArray[np.int64]]
    ) -> None:
        """Draw n rows below a node into ``parts``."""
        members = self.members[level][node]
        if n == 0:
            return
        if level > 0:
            for child, share in zip(members, self.share(n, self.sizes[level - 1][members], rng), strict=True):
                self.visit(level - 1, child, share, within, rng, parts)
        elif n >= len(members):
            parts.append(members)
        else:
            parts.append(rng.choice(members, n, replace=False) if within == "random" else members[:n])

    @staticmethod
    def share(n: int, capacity: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Even shares by bisection of the water level; the remainder to random ones that have room."""
        if n >= capacity.sum():
            return capacity
        low, high = 0, int(capacity.max())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if np.minimum(capacity, middle).sum() <= n else (low, middle)
        share = np.minimum(capacity, low)
        share[rng.choice(np.flatnonzero(capacity > low), n - share.sum(), replace=False)] += 1
        return share


def make_tree(n: int, n_clusters: list[int], seed: int = 0) -> Hierarchy:
    """A random tree whose clusters have uneven sizes (log-normal), with distances."""
    rng = np.random.default_rng(seed)
    assignments = []
    for items, k in zip([n, *n_clusters[:-1]], n_clusters, strict=True):
        mass = rng.lognormal(0, 1, k)
        assignments.append(rng.choice(k, items, p=mass / mass.sum()))
        assignments[-1][0] = k - 1
    return Hierarchy.from_assignments(assignments, distances=[rng.random(len(a)) for a in assignments])


def interleaved(calls: dict[str, Callable[[int], object]], repeats: int) -> dict[str, tuple[float, float, float]]:
    """Median wall seconds, the slowest, and median CPU seconds of each call; runs take turns, so load hits all alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call(repeat)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(w for w, _ in runs), max(w for w, _ in runs), statistics.median(c for _, c in runs))
        for name, runs in times.items()
    }


def measure(n: int, n_clusters: list[int], target: int, repeats: int) -> str:
    """Run everything; a Markdown report."""
    tree = make_tree(n, n_clusters)
    peer = PerNode(tree)
    check_equal(tree, peer, target)
    old = tree.sample(target)
    rng = np.random.default_rng(1)
    grown = tree.extend(rng.integers(0, n_clusters[0], n // 10), rng.random(n // 10))

    def fresh() -> Hierarchy:
        return Hierarchy(tree.levels)  # without what an earlier call left in the cache of the tree

    calls: dict[str, Callable[[int], object]] = {
        "ours, random": lambda seed: fresh().sample(target, random_state=seed),
        "per node, random": lambda seed: peer.sample(target, "random", seed),
        "ours, closest": lambda seed: fresh().sample(target, within="closest", random_state=seed),
        "per node, closest": lambda seed: peer.sample(target, "closest", seed),
        "ours, flat": lambda seed: fresh().sample(target, allocation="flat", random_state=seed),
        "ours, quotas only": lambda seed: fresh().quotas(target, random_state=seed),
        "ours, update after 10 % more rows": lambda seed: Hierarchy(grown.levels).update(
            old, target, random_state=seed
        ),
        "ours, weights(0.5)": lambda _: fresh().weights(0.5),
    }
    found = interleaved(calls, repeats)
    lines = [
        f"{n:,} points, {' / '.join(f'{k:,}' for k in n_clusters)} clusters, {target:,} drawn; {repeats} interleaved runs; "
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; commit {git_commit()}.",
        "",
        "| | median s | slowest s | median CPU s |",
        "|:--|--:|--:|--:|",
        *(f"| {name} | {median:.3f} | {worst:.3f} | {cpu:.3f} |" for name, (median, worst, cpu) in found.items()),
        "",
        *(
            f"{within}: {found[f'per node, {within}'][0] / found[f'ours, {within}'][0]:.0f} times as fast as per node "
            f"(CPU: {found[f'per node, {within}'][2] / found[f'ours, {within}'][2]:.0f} times)."
            for within in ("random", "closest")
        ),
        f"Bar of {BAR} s (random): {'met' if found['ours, random'][0] < BAR else 'not met'}.",
        batch_rate(tree),
    ]
    return "\n".join(lines) + "\n"


def check_equal(tree: Hierarchy, peer: PerNode, target: int) -> None:
    """Both share out alike: at the top only the remainder may differ. Guards against timing two different things."""
    ours, theirs = (
        np.bincount(tree.labels(tree.n_levels)[rows], minlength=tree.n_clusters[-1])
        for rows in (tree.sample(target, within="closest"), peer.sample(target, "closest", 0))
    )
    if ours.sum() != theirs.sum() or np.abs(ours - theirs).max() > 1:
        raise AssertionError("ours and the recursion do not share out alike")


def batch_rate(tree: Hierarchy, batch_size: int = 1024, batches: int = 200) -> str:
    """How fast the stratified sampler makes batches."""
    sampler = StratifiedBatchSampler(tree, batch_size, num_batches=batches)
    began = time.perf_counter()
    list(sampler)
    return f"Stratified batches of {batch_size}: {batches / (time.perf_counter() - began):,.0f} a second."


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--n-clusters", type=int, nargs="+", default=[100_000, 10_000, 1_000])
    parser.add_argument("--target", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", type=Path, help="also write the report there, e.g. results/benchmarks/sampling.md")
    given = parser.parse_args()
    report = measure(given.n, given.n_clusters, given.target, given.repeats)
    print(report)
    if given.write:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("# Sampling: `python -m strata.experiments.benchmarks.sampling`\n\n" + report)


if __name__ == "__main__":
    main()
