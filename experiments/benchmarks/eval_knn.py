"""k-NN of ours against a torch matmul and topk, each in a process of its own, so that the peak of its memory is its own."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from strata.eval.nearest import nearest_neighbors


def plain(queries: np.ndarray, keys: np.ndarray, k: int) -> torch.Tensor:
    """What one would write: all similarities at once, then the largest of each row."""
    q, m = (torch.nn.functional.normalize(torch.from_numpy(np.array(x)).float(), dim=1) for x in (queries, keys))
    return (q @ m.T).topk(k, dim=1).indices


def ours(queries: np.ndarray, keys: np.ndarray, k: int) -> torch.Tensor:
    """The k-NN protocol's search."""
    return nearest_neighbors(queries, keys, k)[1]


def memory(what: str) -> int:
    """KiB of this process by Linux: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def run(method: str, folder: Path, k: int) -> None:
    """In a process of its own: print seconds and memory, write what was found."""
    keys, queries = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("keys", "queries"))
    call = {"ours": ours, "plain": plain}[method]
    call(queries[:16], keys[:2000], min(k, 50))  # compiled loops and libraries are loaded before
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    wall, cpu = time.perf_counter(), time.process_time()
    found = call(queries, keys, k)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = memory("VmHWM")
    np.save(folder / f"{method}.npy", found.numpy())
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak / 2**20, "grown": (peak - before) / 2**20}))


def measure_knn(folder: Path, n: int, n_queries: int, d: int, k: int, rounds: int) -> list[str]:
    """Both, taking turns."""
    rng = np.random.default_rng(0)
    axes = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    for name, size in (("keys", n), ("queries", n_queries)):
        np.save(folder / f"{name}.npy", (rng.standard_normal((size, d), np.float32) * axes).astype(np.float16))
    found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for method in found:
            command = [sys.executable, "-m", "strata.experiments.benchmarks.eval_knn", method, str(folder), str(k)]
            found[method].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    same = np.mean(np.sort(np.load(folder / "ours.npy"), 1) == np.sort(np.load(folder / "plain.npy"), 1))
    middle = {
        method: {what: statistics.median(one[what] for one in runs) for what in runs[0]}
        for method, runs in found.items()
    }
    rows = [
        f"| {name} | {of['wall']:.1f} | {of['cpu']:.1f} | {of['peak']:.2f} | {of['grown']:.2f} |"
        for name, of in middle.items()
    ]
    ratio = {what: middle["plain"][what] / max(middle["ours"][what], 1e-3) for what in ("wall", "cpu", "peak", "grown")}
    return [
        f"## k-NN: n={n:,}, {n_queries:,} queries, d={d}, k={k}, {rounds} rounds",
        "",
        "| method | s | CPU s | peak GiB of the process | GiB above what it began with |",
        "|:--|--:|--:|--:|--:|",
        *rows,
        "",
        f"{ratio['wall']:.2f} times as fast as matmul and topk (CPU: {ratio['cpu']:.2f}); memory 1 / {ratio['peak']:.1f} of its "
        f"(without the libraries: 1 / {ratio['grown']:.1f}). {100 * same:.3f} % of the neighbors are the same in the same place "
        "(float32 orders near-equal ones otherwise; ours is exact).",
    ]


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
