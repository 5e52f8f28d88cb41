"""Protocols against what does the same without them, in one run: linear grid, logistic path, k-NN.

    python -m strata.experiments.benchmarks.eval --write results/benchmarks/eval.md

Runs take turns and medians are printed. Some nine minutes on two cores; ``--tiny`` takes seconds and says nothing of speed.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from strata.eval.features import Features
from strata.eval.protocols.inputs import read_input
from strata.eval.protocols.linear import DINOV2_RATES, Linear, Setting, batches
from strata.eval.protocols.logreg import DINOV2_STRENGTHS, LogReg
from strata.eval.protocols.selection import best_trial, held_out_rows
from strata.experiments.benchmarks.eval_knn import measure_knn
from strata.experiments.execute import git_commit


def make_features(folder: Path, n: int, d: int, n_classes: int, seed: int = 0) -> Features:
    """Overlapping classes on axes whose lengths fall off as those of real features do; float16, memory-mapped."""
    rng = np.random.default_rng(seed)
    axes = np.arange(1, d + 1) ** -0.7
    centers = rng.standard_normal((n_classes, d)) * axes
    y = rng.permutation(np.arange(n) % n_classes)
    folder.mkdir(parents=True)
    for name in ("cls", "avg"):
        blocks = [centers[y] + 4 * axes * rng.standard_normal((n, d)) + 2 * axes for _ in range(4)]
        np.save(folder / f"{name}.npy", np.stack(blocks, axis=1).astype(np.float16))
    cls, avg = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("cls", "avg"))
    return Features(cls, avg, y, [str(row) for row in range(n)], [str(c) for c in range(n_classes)])


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each call; they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: tuple(statistics.median(column) for column in zip(*runs, strict=True)) for name, runs in times.items()
    }  # type: ignore[misc]


def head_alone(train: Features, setting: Setting, steps: int, batch_size: int = 128) -> torch.nn.Linear:
    """One head as a plain probe is written: nn.Linear, autograd, torch's SGD and cosine, features read batch by batch."""
    y = torch.from_numpy(np.array(train.labels))
    width = (setting.n_blocks + setting.avgpool) * train.cls.shape[2]
    head = torch.nn.Linear(width, train.n_classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=setting.learning_rate * batch_size / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for rows in batches(np.arange(len(train)), batch_size, steps, seed=0):
        x = read_input(train, rows, setting.n_blocks, setting.avgpool, "cpu")
        loss = torch.nn.functional.cross_entropy(head(x), y[torch.from_numpy(rows)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head


def heads_alone(train: Features, grid: list[Setting], steps: int) -> None:
    """Every head of the grid, one after the other."""
    for setting in grid:
        head_alone(train, setting, steps)


def measure_linear(folder: Path, sizes: list[tuple[int, int]], n: int, steps: int, rounds: int) -> list[str]:
    """The whole grid of 52 heads, together and one after the other, on the same features."""
    grid = [Setting(rate, blocks, avg) for rate in DINOV2_RATES for blocks in (1, 4) for avg in (False, True)]
    lines = [
        f"## Linear grid: 52 heads, {n:,} images, {steps} steps of 128, {rounds} rounds",
        "",
        "| d | classes | together s | each alone s | ratio | CPU ratio |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for d, n_classes in sizes:
        train = make_features(folder / f"linear-{d}-{n_classes}", n, d, n_classes)
        probe = Linear(steps=steps)
        calls: dict[str, Callable[[], object]] = {
            "together": partial(probe._train, train, np.arange(n), grid, "cpu", "together"),
            "alone": partial(heads_alone, train, grid, steps),
        }
        found = interleaved(calls, rounds)
        (wall, cpu), (alone, alone_cpu) = found["together"], found["alone"]
        lines.append(f"| {d} | {n_classes} | {wall:.2f} | {alone:.2f} | {alone / wall:.1f} | {alone_cpu / cpu:.1f} |")
    return lines


def measure_logreg(folder: Path, n: int, d: int, n_classes: int, every: int) -> list[str]:
    """All 45 values of C by us; every so many of them by scikit-learn, along a warm-started path, its time scaled."""
    train = make_features(folder / "logreg", n, d, n_classes)
    probe = LogReg()
    x, y = probe._inputs(train, np.arange(n), "cpu"), torch.from_numpy(np.array(train.labels))
    began = time.perf_counter()
    trials, _ = probe._try_all(x, y, train.labels, n_classes)
    ours = time.perf_counter() - began
    some = DINOV2_STRENGTHS[::every]
    shared = [trial for trial in trials if trial["C"] in some]
    choices = ("top1", "cross_entropy")
    lines = [
        f"## Logistic path: n={n:,} (a tenth held out), d={d}, {n_classes} classes, 45 values of C",
        "",
        f"scikit-learn: LogisticRegression(warm_start=True, max_iter=1000) on float32 (its faster type), every {every}th C "
        f"({len(some)} of 45), time x 45 / {len(some)}.",
        "",
        "| method | s | ratio | steps | C by held-out top-1 | its top-1 | C by cross-entropy | its cross-entropy |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
        f"| ours, 45 values | {ours:.1f} | 1 | {sum(t['n_iter'] for t in trials)} | {_chosen(trials, choices)} |",
        f"| ours, judged on those {len(some)} | | | | {_chosen(shared, choices)} |",
    ]
    for tol in (1e-6, 1e-4):
        seconds, peers = scikit_learn_path(x.numpy(), train.labels, some, tol)
        scaled = seconds * len(DINOV2_STRENGTHS) / len(some)
        steps = sum(t["n_iter"] for t in peers)
        lines.append(
            f"| scikit-learn, tol={tol:g} | {scaled:.1f} | {scaled / ours:.1f} | {steps} | {_chosen(peers, choices)} |"
        )
    return lines


def scikit_learn_path(
    x: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], strengths: tuple[float, ...], tol: float
) -> tuple[float, list[dict[str, float]]]:
    """Seconds of the fits, and the same trials as ours."""
    from sklearn.linear_model import LogisticRegression

    fitted_on, held_out = held_out_rows(y, 0.1, 0)
    model = LogisticRegression(warm_start=True, max_iter=1000, tol=tol)
    seconds, trials = 0.0, []
    for strength in strengths:
        model.set_params(C=strength)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some reach max_iter, as DINOv2's do
            model.fit(x[fitted_on], y[fitted_on])
        seconds += time.perf_counter() - began
        p = model.predict_log_proba(x[held_out])
        loss = -float(p[np.arange(len(held_out)), y[held_out]].mean())
        right = float((p.argmax(axis=1) == y[held_out]).mean())
        trials.append({"C": strength, "top1": right, "cross_entropy": loss, "n_iter": int(model.n_iter_[0])})
    return seconds, trials


def _chosen(trials: list[dict[str, float]], choices: tuple[str, ...]) -> str:
    best = {by: best_trial(trials, by) for by in choices}  # type: ignore[arg-type]
    return " | ".join(f"{trial['C']:.3g} | {trial[by]:.4f}" for by, trial in best.items())


def measure(tiny: bool, rounds: int, parts: list[str]) -> str:
    """Run everything; a Markdown report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections = []
        if "linear" in parts:
            sizes = [(16, 3)] if tiny else [(192, 10), (384, 10), (384, 100)]
            sections.append(measure_linear(folder, sizes, 300 if tiny else 10_000, 3 if tiny else 200, rounds))
        if "logreg" in parts:
            sections.append(measure_logreg(folder, *((400, 8, 4, 15) if tiny else (26_000, 384, 50, 4))))
        if "knn" in parts:
            sections.append(measure_knn(folder, *((900, 60, 8, 5) if tiny else (100_000, 20_000, 384, 200)), rounds))
    about = (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    head = f"{about}; load {os.getloadavg()[0]:.1f} at the end; commit {git_commit()}."
    return "\n\n".join([head, *("\n".join(section) for section in sections)]) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["linear", "logreg", "knn"], choices=["linear", "logreg", "knn"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="sizes for a test")
    parser.add_argument("--write", type=Path, help="also write the report there, e.g. results/benchmarks/eval.md")
    given = parser.parse_args()
    report = measure(given.tiny, given.rounds, given.parts)
    print(report)
    if given.write:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("# Evaluation: `python -m strata.experiments.benchmarks.eval`\n\n" + report)


if __name__ == "__main__":
    main()
