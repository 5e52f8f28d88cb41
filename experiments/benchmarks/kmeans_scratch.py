"""K-means with its own seeds, from nothing to inertia: accelerated against greedy k-means++ and exact Lloyd.

    python -m strata.experiments.benchmarks.kmeans_scratch --case e --rounds 3

Seeds are timed apart. A peer's sequential greedy k-means++ at k = 16,000 would take most of an hour: its first
``--steps`` centers are timed and scaled by k / steps (a step costs the same whatever came before). Its distribution is
that of our exact k-means++, whose seeds all exact iterations start from. ``--peer-updates`` of a peer are timed and
scaled by the number of passes alike. CPU seconds of all threads; give OMP_WAIT_POLICY=passive.
"""

import argparse
import statistics
import warnings
from pathlib import Path

import numpy as np
import torch

from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.init import initial_centroids
from strata.curation.kmeans.points import Points
from strata.experiments.benchmarks.kmeans import CASES, Matrix, faiss_full, ours_lloyd, sklearn_full
from strata.experiments.benchmarks.peak import cpu_and_wall

PEERS = {"scikit-learn Lloyd": lambda: sklearn_full("lloyd"), "faiss": lambda: faiss_full}


def sequential_seconds(X: Matrix, k: int, steps: int) -> float:
    """CPU seconds of scikit-learn's greedy k-means++ for k centers, from its first ``steps`` ones.

    On one thread: on two, those that wait between its small products would be counted as work.
    """
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    trials, steps = 2 + int(np.log(k)), min(steps, k)
    kmeans_plusplus(X[:2000], 20, n_local_trials=trials, random_state=0)
    with threadpool_limits(1):
        began = cpu_and_wall()[0]
        kmeans_plusplus(X, steps, n_local_trials=trials, random_state=0)
        return (cpu_and_wall()[0] - began) * k / steps


def measure(
    X: Matrix, k: int, rounds: int, updates: int, peer_updates: int, steps: int
) -> dict[str, tuple[float, ...]]:
    """Medians by method: CPU seconds of the seeds, of the rest, inertia per value (a peer's is that of our exact run)."""
    for algorithm in ("lloyd", "accelerated"):  # compiled kernels are made before the clock runs
        kmeans(X[:20_000], 600, algorithm=algorithm, n_iter=2, device="cpu", warn=False)  # type: ignore[arg-type]
    told: dict[str, list[tuple[float, ...]]] = {}
    for number in range(rounds):
        times = [cpu_and_wall()[0]]
        result = kmeans(X, k, init="auto", algorithm="accelerated", random_state=number, device="cpu", warn=False)
        times.append(cpu_and_wall()[0])
        told.setdefault("ours, accelerated", []).append((np.nan, times[1] - times[0], result.inertia / X.size))
        start = initial_centroids(Points(X), k, "k-means++", np.random.default_rng(number))
        times.append(cpu_and_wall()[0])
        inertia = ours_lloyd(X, start, updates) / X.size
        times.append(cpu_and_wall()[0])
        told.setdefault("ours, k-means++ and exact", []).append((times[2] - times[1], times[3] - times[2], inertia))
        initial_centroids(Points(X), k, "scalable", np.random.default_rng(number))
        told.setdefault("ours, scalable seeds alone", []).append((cpu_and_wall()[0] - times[3], 0.0, np.nan))
        seeds = sequential_seconds(X, k, steps)
        for name, peer in PEERS.items():
            began = cpu_and_wall()[0]
            peer()(X, start, peer_updates)
            passes = (updates + 1) / (peer_updates + 1)
            told.setdefault(f"greedy k-means++ and {name}", []).append(
                (seeds, (cpu_and_wall()[0] - began) * passes, inertia)
            )
    return {name: tuple(statistics.median(column) for column in zip(*rows, strict=True)) for name, rows in told.items()}


def table(name: str, shape: tuple[int, int], told: dict[str, tuple[float, ...]], about: str) -> str:
    """Markdown: the accelerated run against each exact one."""
    exact = told["ours, k-means++ and exact"]
    total = {who: np.nansum(values[:2]) for who, values in told.items()}
    ours = total["ours, accelerated"]
    lines = [f"### {name}: N={shape[0]:,} d={shape[1]}, {about}", ""]
    lines += [
        "| method | seeds CPU-s | rest CPU-s | all CPU-s | all / accelerated | seeds / scalable seeds | inertia | less exact |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    scalable = told["ours, scalable seeds alone"][0]
    for who, (seeds, rest, inertia) in told.items():
        alone = who.endswith("alone")
        cells = [
            "(within)" if np.isnan(seeds) else f"{seeds:.1f}",
            "–" if alone else f"{rest:.1f}",
            f"{total[who]:.1f}",
            "–" if alone else f"{total[who] / ours:.1f}",
            "–" if np.isnan(seeds) else f"{seeds / scalable:.1f}",
            "–" if np.isnan(inertia) else f"{inertia:.6g}",
            "–" if np.isnan(inertia) else f"{100 * (inertia / exact[2] - 1):+.2f} %",
        ]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the cases asked for and append their tables to the Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="may be given more than once; default: a")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--peer-updates", type=int, help="timed ones; default: all")
    parser.add_argument("--steps", type=int, default=200, help="timed centers of a peer's k-means++")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/kmeans_scratch.md"))
    given = parser.parse_args(arguments)
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(given.threads)
    peer_updates = given.peer_updates or given.updates
    with threadpool_limits(given.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in given.case or ["a"]:
            case = CASES[name]
            X = case.make()
            told = measure(X, case.k, given.rounds, given.updates, peer_updates, given.steps)
            about = (
                f"k={case.k:,}, {case.about}; {given.updates} exact updates ({peer_updates} of a peer timed), "
                f"{min(given.steps, case.k)} centers of the peer's seeds timed, {given.threads} thread(s), "
                f"median of {given.rounds}"
            )
            text = table(name, X.shape, told, about)
            print(text)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            with given.out.open("a") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
