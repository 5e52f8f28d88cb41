"""K-means of ours, scikit-learn's and faiss's on the same data, init and threads, interleaved.

    python -m strata.experiments.benchmarks.kmeans --case a --rounds 3

Exact methods run ``--iterations`` updates from the same seeds (not timed); "accelerated" makes its own seeds and stops
by itself, and its time includes them. CPU seconds (all threads) are what to compare on a shared machine, with
OMP_WAIT_POLICY=passive, or threads that wait are counted as work. Cost on two cores: case tiny seconds; a, w and b some
ten minutes a round with Elkan and MiniBatch, two without; d an hour a round with peers.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from strata.curation.kmeans.flat import kmeans
from strata.experiments.benchmarks.kmeans_data import patch_embeddings, power_law_mixture, separated_blobs
from strata.experiments.benchmarks.peak import cpu_and_wall, gemm_peaks

Matrix = Float[np.ndarray, "n d"]
Run = Callable[[Matrix, Matrix, int], float]  # data, initial centroids, updates -> inertia


@dataclass(frozen=True)
class Case:
    """One size: data, number of clusters, what it stands for."""

    make: Callable[[], Matrix]
    k: int
    about: str


CASES = {
    "a": Case(lambda: power_law_mixture(200_000, 256), 2_000, "overlapping Gaussians, Zipf sizes: hard, no pruning"),
    "w": Case(lambda: separated_blobs(200_000, 256, groups=2_000), 2_000, "well-clustered Gaussians"),
    "b": Case(lambda: power_law_mixture(1_000_000, 64), 1_000, "overlapping Gaussians, many rows, few features"),
    "e": Case(lambda: patch_embeddings(400_000, 256), 2_000, "random features of photographs: like embeddings"),
    "d": Case(lambda: patch_embeddings(400_000, 256), 16_000, "random features of photographs, large k"),
    "tiny": Case(lambda: power_law_mixture(3_000, 16, groups=50), 40, "for tests"),
}


def ours_lloyd(X: Matrix, C: Matrix, updates: int) -> float:
    """Our exact iterations."""
    return kmeans(X, len(C), init=C, n_iter=updates, algorithm="lloyd", device="cpu", warn=False).inertia


def ours_accelerated(X: Matrix, C: Matrix, updates: int) -> float:
    """Our accelerated mode with its own seeds."""
    return kmeans(X, len(C), init="auto", algorithm="accelerated", device="cpu", warn=False).inertia


def sklearn_full(algorithm: str) -> Run:
    """scikit-learn's exact algorithms."""
    from sklearn.cluster import KMeans

    def run(X: Matrix, C: Matrix, updates: int) -> float:
        model = KMeans(len(C), init=C, n_init=1, max_iter=updates, tol=0, algorithm=algorithm).fit(X)
        return float(model.inertia_)

    return run


def sklearn_minibatch(X: Matrix, C: Matrix, updates: int) -> float:
    """scikit-learn's mini-batch k-means with as many passes as updates."""
    from sklearn.cluster import MiniBatchKMeans

    size = max(1024, 4 * len(C))
    model = MiniBatchKMeans(len(C), init=C, n_init=1, max_iter=updates, batch_size=size, max_no_improvement=None)
    return float(-model.fit(X).score(X))


def faiss_full(X: Matrix, C: Matrix, updates: int, **options: bool) -> float:
    """Faiss on all points (its default would train on 256 k of them), with a last assignment as the others have."""
    import faiss

    n, d = X.shape
    model = faiss.Kmeans(d, len(C), niter=updates, min_points_per_centroid=1, max_points_per_centroid=n, **options)
    model.train(X, init_centroids=C)
    distances, _ = model.index.search(X, 1)
    return float(distances.astype(np.float64).sum())


METHODS: dict[str, Callable[[], Run]] = {
    "ours, exact": lambda: ours_lloyd,
    "ours, accelerated": lambda: ours_accelerated,
    "scikit-learn Lloyd": lambda: sklearn_full("lloyd"),
    "faiss": lambda: faiss_full,
    "faiss, super k-means": lambda: partial(faiss_full, use_super_kmeans=True),
    "scikit-learn Elkan": lambda: sklearn_full("elkan"),
    "scikit-learn MiniBatch": lambda: sklearn_minibatch,
}


def measure(case: Case, methods: list[str], rounds: int, updates: int) -> dict[str, list[tuple[float, float, float]]]:
    """CPU seconds, wall seconds and inertia of each method, one after the other in each round."""
    X = case.make()
    # Random rows would leave clusters empty, which every library treats in its own way.
    start = kmeans(X, case.k, init="scalable", n_iter=0, device="cpu", warn=False).centroids
    runs = {name: METHODS[name]() for name in methods}
    for run in runs.values():  # compiled kernels and thread pools are made before the clock runs
        run(X[:2000], X[:100], 2)
    told: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, run in runs.items():
            began = cpu_and_wall()
            inertia = run(X, start, updates)
            cpu, wall = (after - before for after, before in zip(cpu_and_wall(), began, strict=True))
            told[name].append((cpu, wall, inertia / X.size))
    return told


def table(name: str, case: Case, told: dict[str, list[tuple[float, float, float]]], updates: int) -> str:
    """Markdown: medians, and ratios to the fastest exact peer."""
    shape = case.make().shape
    median = {who: [statistics.median(column) for column in zip(*values, strict=True)] for who, values in told.items()}
    peers = {who: values for who, values in median.items() if who in ("scikit-learn Lloyd", "faiss")}
    base = min(peers, key=lambda who: peers[who][0]) if peers else None
    flop = 2.0 * shape[0] * shape[1] * case.k * (updates + 1)
    lines = [
        f"### {name}: N={shape[0]:,} d={shape[1]} k={case.k:,}, {case.about}",
        f"{updates} updates, {torch.get_num_threads()} thread(s), median of {len(next(iter(told.values())))}; "
        + ", ".join(f"{what} {rate:.0f}" for what, rate in gemm_peaks(shape[1]).items())
        + " GFLOP per CPU-second at best.",
        "",
        f"| method | CPU-s | wall s | inertia per value | CPU ratio to {base} | wall ratio | brute-force GFLOP / CPU-s |",
        "|---|---|---|---|---|---|---|",
    ]
    for who, (cpu, wall, inertia) in median.items():
        ratios = f"{peers[base][0] / cpu:.2f} | {peers[base][1] / wall:.2f}" if base else "– | –"
        rate = "–" if who == "ours, accelerated" or "Mini" in who else f"{flop / cpu / 1e9:.0f}"
        lines.append(f"| {who} | {cpu:.1f} | {wall:.1f} | {inertia:.6g} | {ratios} | {rate} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the cases asked for and append their tables to the Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="may be given more than once; default: a")
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/kmeans.md"))
    given = parser.parse_args(arguments)
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(given.threads)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(given.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in given.case or ["a"]:
            told = measure(CASES[name], given.method or list(METHODS), given.rounds, given.iterations)
            text = table(name, CASES[name], told, given.iterations)
            print(text)
            with given.out.open("a") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
