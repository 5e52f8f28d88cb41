"""Does it learn? k-NN of a backbone from random weights, as it trains, against the untrained one and raw pixels.

    python -m strata.experiments.benchmarks.ssl_learns digits tinyimagenet_lt

It writes results/ssl_learns/README.md, curves.png, and a CSV and a JSON file for each run. Recipes are made for under 30
minutes of one CPU thread each.
The curve is k-NN on rows of the training pool that are held out of training (seeded); recipes were chosen on it alone. At the
end the benchmark's own train and test splits are read once. Data: digits comes with scikit-learn; tinyimagenet_lt needs
STRATA_DATA.
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.experiments.build import build
from strata.experiments.execute import git_commit
from strata.experiments.online_knn import OnlineKNN, held_out
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.module import DINOv2
from strata.ssl.image.pretrain import pretrain

HELD_OUT = {"digits": 0.25, "tinyimagenet_lt": 0.1}  # share of the training pool
BANK = 8_000  # rows that vote, at most: the same for the network and for pixels
POINTS = 12  # of the curve


@dataclass
class Curve:
    """One run. ``points`` holds (step, images seen, CPU-seconds, k-NN) from step 0 on; ``test`` is read once."""

    data: str
    recipe: str
    points: list[tuple[int, int, float, float]]
    bars: dict[str, float]
    test: dict[str, float]
    cpu_seconds: float
    wall_seconds: float


def composed(*overrides: str) -> dict[str, Any]:
    """Groups of configs/ by their names."""
    with initialize_config_module("strata.configs", version_base="1.3"):
        found = OmegaConf.to_container(compose("common", [f"+{o}" for o in overrides]), resolve=True)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


def learn(data: str, recipe: str, seed: int, out: Path) -> Curve:
    """Train, look in between, read the test split once."""
    groups = composed(f"ssl={recipe}", f"pool={data}", f"benchmark={data}")
    config = ImageSSLConfig(**groups["ssl"])
    pool: Pool = build(groups["pool"], "pool")
    rest, queries = held_out(pool, HELD_OUT[data], seed=0)
    bank = SubsetPool(rest, np.sort(np.random.default_rng(1).permutation(len(rest))[:BANK]))
    probe = OnlineKNN(bank, queries, size=config.global_size, mean=config.mean, std=config.std)
    every = max(1, config.steps // POINTS)
    untrained = DINOv2(ImageSSLConfig(**{**groups["ssl"], "method": "dinov2"}), seed).backbone.vit.eval()
    points = [(0, 0, 0.0, probe(untrained)["knn_top1"])]  # type: ignore[arg-type]  # timm's models are not typed
    started, wall = time.process_time(), time.time()

    def note(values: dict[str, float], step: int) -> None:
        if "knn_top1" in values:
            points.append((step, step * config.batch_size, time.process_time() - started, values["knn_top1"]))
            print(f"{data} {recipe}: step {step}, {points[-1][2]:.0f} CPU-s, k-NN {points[-1][3]:.4f}", flush=True)

    folder = out / "backbone" / f"{data}_{recipe}_{seed}"
    pretrain(
        config, pool, rest.rows, folder,
        seed=seed, num_threads=1, device="cpu", log_every=every, probe=probe, probe_every=every, on_metrics=note,
    )  # fmt: skip
    spent, lasted = time.process_time() - started, time.time() - wall
    benchmark = build(groups["benchmark"], "benchmark")
    final = OnlineKNN(benchmark.train, benchmark.test, size=config.global_size, mean=config.mean, std=config.std)
    trained = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    test = final.pixels() | {"untrained": final(untrained)["knn_top1"], "trained": final(trained)["knn_top1"]}  # type: ignore[arg-type]
    return Curve(data, recipe, points, probe.pixels(), test, spent, lasted)


def write(curve: Curve, out: Path, seed: int) -> None:
    """The curve as CSV, and all numbers as JSON."""
    name = f"{curve.data}_{curve.recipe}_{seed}"
    with open(out / f"{name}.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", "images", "cpu_seconds", "knn_held_out"])
        writer.writerows((step, images, round(cpu, 1), round(knn, 5)) for step, images, cpu, knn in curve.points)
    about = {
        "data": curve.data,
        "recipe": curve.recipe,
        "seed": seed,
        "held_out": {**curve.bars, "untrained": curve.points[0][3], "trained": curve.points[-1][3]},
        "test": curve.test,
        "cpu_seconds": round(curve.cpu_seconds),
        "wall_seconds": round(curve.wall_seconds),
        "command": " ".join(["python -m strata.experiments.benchmarks.ssl_learns", *sys.argv[1:]]),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "settings": composed(f"ssl={curve.recipe}")["ssl"],
    }
    (out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def report(out: Path) -> None:
    """README.md and curves.png, of all runs that lie in the folder."""
    runs = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    lines = [
        "# It learns: k-NN from random weights",
        "",
        "Top-1 of knn-v1 (k = 20) in percent. Held out: rows of the training pool that are not trained on; recipes were "
        "chosen on them. Test: the benchmark's own splits, read once. Pixels: the better of raw and mean-free ones. Commands, "
        "commits and settings are in the JSON files.",
        "",
        "| data | recipe | seed | held out: pixels | untrained | trained | test: pixels | untrained | trained | CPU-minutes |",
        "|" + "---|" * 10,
    ]
    for run in runs:
        cells = [f"{100 * value:.1f}" for part in ("held_out", "test") for value in _bars(run[part])]
        minutes = f"{run['cpu_seconds'] / 60:.0f}"
        lines.append(f"| {run['data']} | {run['recipe']} | {run['seed']} | {' | '.join(cells)} | {minutes} |")
    (out / "README.md").write_text("\n".join(lines) + "\n\n![curves](curves.png)\n")
    _draw(runs, out)


def _bars(numbers: dict[str, float]) -> tuple[float, float, float]:
    return max(numbers["pixels"], numbers["pixels, centered"]), numbers["untrained"], numbers["trained"]


def _draw(runs: list[dict[str, Any]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({run["data"] for run in runs})
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        here = [run for run in runs if run["data"] == name]
        for run in here:
            table = np.genfromtxt(out / f"{name}_{run['recipe']}_{run['seed']}.csv", delimiter=",", names=True)
            axis.plot(table["cpu_seconds"] / 60, 100 * table["knn_held_out"], marker="o", ms=3, label=run["recipe"])
        bars = here[0]["held_out"]
        for label, style in (("pixels", ":"), ("pixels, centered", "--")):
            axis.axhline(100 * bars[label], color="0.4", ls=style, lw=1, label=label)
        axis.set(title=f"{name}, held-out rows of the pool", xlabel="CPU-minutes, one thread", ylabel="k-NN top-1, %")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(out / "curves.png", dpi=130)


def main() -> None:
    """Run, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="digits, tinyimagenet_lt")
    parser.add_argument("--recipe", action="append", help="of configs/ssl; default: those made for the data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/ssl_learns"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for data in given.data:
        for recipe in given.recipe or DEFAULTS[data]:
            write(learn(data, recipe, given.seed, given.out), given.out, given.seed)
    report(given.out)


DEFAULTS = {"digits": ["dinov2_digits"], "tinyimagenet_lt": ["simclr_tinyimagenet"]}

if __name__ == "__main__":
    main()
