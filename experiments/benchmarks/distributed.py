"""Scaling of k-means over processes, one thread each: the same run by process 0 alone and by all, interleaved.

    torchrun --standalone --nproc-per-node 2 -m strata.experiments.benchmarks.distributed
    torchrun ... -m strata.experiments.benchmarks.distributed --shard-centroids   # each process holds k / p of them

Efficiency is (time of one) / (processes x time of all): by wall time it needs as many idle cores as processes, by CPU
time it says what the sharing itself costs on a busy machine, too. The centroids and labels must be identical bytes.
Memory is what the process that gains most has gained at its peak: its rows, centered, and its centroids (Linux only).
"""

import argparse
import ctypes
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from strata.curation.kmeans.flat import KMeansResult, kmeans
from strata.curation.kmeans.group import ALONE, Group, join
from strata.curation.kmeans.points import Points
from strata.experiments.benchmarks.kmeans_data import power_law_mixture


def main() -> None:
    """Run the benchmark and print its table on process 0."""
    options = _options()
    torch.set_num_threads(1)
    group = join("cpu")
    with tempfile.TemporaryDirectory() as folder:
        name = np.frombuffer(folder.encode().ljust(256, b"\0"), np.uint8).copy()
        file = Path(group.from_rank(name).tobytes().rstrip(b"\0").decode()) / "rows.npy"
        if group.rank == 0:
            np.save(file, power_law_mixture(options.n, options.d))
        group.barrier()
        X = np.load(file, mmap_mode="r")
        _fit(X[: 4 * options.k], options, ALONE)  # loads the compiled kernels
        times: dict[str, list[tuple[float, float, float]]] = {"alone": [], "all": []}
        marks = set()
        for _ in range(options.repeats):
            for who in times:
                seconds, cpu, grown, mark = _timed(X, options, who, group)
                times[who].append((seconds, cpu, grown))
                marks.add(mark)
        group.barrier()
    if group.rank == 0:
        _report(options, times, marks, group.size)
    if dist.is_initialized():
        dist.destroy_process_group()
    if len(marks) > 1:
        raise SystemExit("the bytes differ")


def _timed(X: np.ndarray, options: argparse.Namespace, who: str, group: Group) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds of all processes, bytes that one gained at most, and a hash of centroids and labels."""
    group.barrier()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, so that it is seen to be taken again
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    result = _fit(X, options, ALONE if who == "alone" else group) if who == "all" or group.rank == 0 else None
    cpu = time.process_time() - cpu
    group.barrier()
    seconds = time.perf_counter() - began
    grown = float(group.concatenated(np.array([_status("VmHWM") - before])).max())
    own = np.empty(0, np.int32) if result is None else result.labels
    labels = group.concatenated(own)
    centroids = np.empty((0, options.d), np.float32) if result is None else result.centroids
    if who == "all" and options.shard_centroids:
        centroids = group.concatenated(centroids)
    mark = hashlib.sha256(labels.tobytes() + centroids.tobytes()).hexdigest()
    if group.rank > 0:  # those of process 0 count
        mark = ""
    return seconds, float(group.concatenated(np.array([cpu])).sum()), grown, mark


def _status(name: str) -> int:
    """Bytes of memory that Linux says this process has (VmRSS), or had at most (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _fit(X: np.ndarray, options: argparse.Namespace, group: Group) -> KMeansResult:
    points = Points(X, group=group, shared=options.shard_centroids and group.size > 1)
    return kmeans(points, options.k, init=options.init, n_iter=options.n_iter, algorithm=options.algorithm, warn=False)


def _report(
    options: argparse.Namespace, times: dict[str, list[tuple[float, float, float]]], marks: set[str], size: int
) -> None:
    print(f"n={options.n} d={options.d} k={options.k}, {options.n_iter} iterations, init {options.init}")
    median = {who: [statistics.median(column) for column in zip(*runs, strict=True)] for who, runs in times.items()}
    for who, processes in (("alone", 1), ("all", size)):
        wall, cpu, grown = median[who]
        print(f"{processes} process(es): {wall:.2f} s wall, {cpu:.2f} CPU-s, {grown / 1e6:.0f} MB each (medians)")
    wall, cpu = (
        one / (factor * many) for one, many, factor in zip(median["alone"], median["all"], (size, 1), strict=False)
    )
    print(f"efficiency of {size} processes: {wall:.0%} by wall time, {cpu:.0%} by CPU time")
    print("identical bytes" if len(marks) == 1 else "DIFFERENT bytes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", dest="n", type=int, default=262_144, help="rows; blocks of 65,536 are shared out")
    parser.add_argument("--dim", dest="d", type=int, default=128)
    parser.add_argument("--clusters", dest="k", type=int, default=1000)
    parser.add_argument("--iterations", dest="n_iter", type=int, default=10)
    parser.add_argument("--init", default="random", choices=("random", "k-means++", "scalable"))
    parser.add_argument("--algorithm", default="lloyd", choices=("lloyd", "accelerated"))
    parser.add_argument("--shard-centroids", action="store_true", help="each process holds its part of the centroids")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
