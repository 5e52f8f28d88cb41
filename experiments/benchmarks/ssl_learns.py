"""Does it learn? k-NN of a backbone from random weights, as it trains, against the untrained one and raw pixels.

    python -m strata.experiments.benchmarks.ssl_learns digits tinyimagenet_lt
    python -m strata.experiments.benchmarks.ssl_learns digits --change koleo_weight=0.5

It writes results/ssl_learns/README.md, curves.png, and a CSV and a JSON file for each run. Recipes are made for under 30
minutes of one CPU thread each, the probes on the way included.
The curve is protocol knn-v1 on rows of the training pool that are held out of training (seeded); recipes were chosen on it
alone. At the end the benchmark's own train and test splits are read once; not so for a recipe with a ``--change``, which is
how recipes are chosen. Data: digits comes with scikit-learn;
tinyimagenet_lt needs STRATA_DATA. A run that was killed goes on from its checkpoint, less the curve up to there.
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from hydra import compose, initialize_config_module
from jaxtyping import Float, Int
from omegaconf import OmegaConf

from strata.curation.encoders.timm_features import evaluation_transform
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.eval.benchmarks import Benchmark
from strata.eval.nearest import nearest_neighbors
from strata.eval.online import OnlineProbe
from strata.eval.protocols.knn import KNN, vote
from strata.experiments.execute import git_commit
from strata.experiments.settings.build import build
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.module import DINOv2
from strata.ssl.image.pretrain import pretrain

HELD_OUT = {"digits": 0.25, "tinyimagenet_lt": 0.1}  # share of the training pool
BANK = 8_000  # rows that vote, at most: the same for the network and for pixels
POINTS = 12  # of the curve
BARS = ("pixels", "centered", "untrained", "trained")
RECIPES = {
    "digits": ["dinov2_digits", "simclr_digits", "mae_digits"],
    "tinyimagenet_lt": ["dinov2_tinyimagenet", "simclr_tinyimagenet"],
}
_KNN = KNN(k=(20,), headline_k=20)


@dataclass
class Curve:
    """One run. ``points`` holds (step, images seen, CPU-seconds, k-NN) from step 0 on; ``test`` is read once, or never."""

    data: str
    recipe: str
    seed: int
    points: list[tuple[int, int, float, float]]
    held_out: dict[str, float]
    test: dict[str, float]
    cpu_seconds: float
    wall_seconds: float
    settings: dict[str, Any]
    commit: str

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.data}_{self.recipe}_{self.seed}"


def composed(groups: Sequence[str], changes: Sequence[str]) -> dict[str, Any]:
    """Groups of configs/ by their names, with some settings of ``ssl`` changed."""
    with initialize_config_module("strata.configs", version_base="1.3"):
        overrides = [f"+{group}" for group in groups] + [f"ssl.{change}" for change in changes]
        found = OmegaConf.to_container(compose("common", overrides), resolve=True)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


def held_out(pool: Pool, share: float, seed: int) -> tuple[SubsetPool, SubsetPool]:
    """A pool cut in two at random: what is left, and the part held out."""
    order: Int[np.ndarray, " n"] = np.random.default_rng(seed).permutation(len(pool))
    n = round(len(pool) * share)
    rest, out = np.sort(order[n:]), np.sort(order[:n])
    return SubsetPool(pool, rest, f"{pool.name}-rest"), SubsetPool(pool, out, f"{pool.name}-held-out")


def score(benchmark: Benchmark, config: ImageSSLConfig, network: torch.nn.Module) -> float:
    """Top-1 of knn-v1."""
    probe = OnlineProbe(
        {benchmark.name: benchmark}, {"knn": _KNN}, size=config.global_size, mean=config.mean, std=config.std
    )
    return probe(network)[f"eval/knn/{benchmark.name}/top1"]


def pixels(benchmark: Benchmark, size: int) -> dict[str, float]:
    """The same vote on raw pixels of a side, and on pixels less the mean image of the training split: the bars to clear."""
    bank, queries = _read(benchmark.train, size), _read(benchmark.test, size)
    mean = bank.mean(axis=0)
    found = {}
    for name, shift in (("pixels", 0.0), ("centered", mean)):
        similarity, rows = nearest_neighbors(queries - shift, bank - shift, _KNN.headline_k)
        labels, truth = (np.asarray(pool.labels) for pool in (benchmark.train, benchmark.test))
        neighbors = torch.from_numpy(labels)[rows]
        won = vote(similarity, neighbors, int(labels.max()) + 1, _KNN.temperature, [_KNN.headline_k])
        found[name] = float((won[_KNN.headline_k].numpy() == truth).mean())
    return found


def _read(pool: Pool, size: int) -> Float[np.ndarray, "n d"]:
    """Images through the evaluators' transform, from 0 to 1, flat."""
    plain = {"input_size": (3, size, size), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    transform, _ = evaluation_transform({**plain, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    return np.stack([transform(pool[row].convert("RGB")).numpy().ravel() for row in range(len(pool))])


def learn(data: str, recipe: str, seed: int, work: Path, changes: Sequence[str] = ()) -> Curve:
    """Train, look in between, read the test split once (if nothing is changed)."""
    commit = git_commit()
    groups = composed([f"ssl={recipe}", f"pool={data}", f"benchmark={data}"], changes)
    recipe = "+".join([recipe, *changes])
    config = ImageSSLConfig(**groups["ssl"])
    pool: Pool = build(groups["pool"], "pool")
    rest, queries = held_out(pool, HELD_OUT[data], seed=0)
    bank = SubsetPool(rest, np.sort(np.random.default_rng(1).permutation(len(rest))[:BANK]))
    between = Benchmark("held_out", bank, queries)
    every = max(1, config.steps // POINTS)
    # The backbone is the first that any method draws from the seed
    untrained = DINOv2(ImageSSLConfig(**{**groups["ssl"], "method": "dinov2"}), seed).backbone.vit.eval()
    points = [(0, 0, 0.0, score(between, config, untrained))]
    started, wall = time.process_time(), time.time()

    def note(values: dict[str, float], step: int) -> None:
        if "knn" in values:
            points.append((step, step * config.batch_size, time.process_time() - started, values["knn"]))
            print(f"{data} {recipe}: step {step}, {points[-1][2]:.0f} CPU-s, k-NN {points[-1][3]:.4f}", flush=True)

    folder = work / f"{data}_{recipe}_{seed}_{commit[:8]}"
    pretrain(
        config, pool, rest.rows, folder, seed=seed, num_threads=1, device="cpu", progress=False, log_every=every,
        probe=lambda vit: {"knn": score(between, config, vit)}, probe_every=every, on_metrics=note,
    )  # fmt: skip
    spent, lasted = time.process_time() - started, time.time() - wall
    trained = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    test: dict[str, float] = {}
    if not changes:
        benchmark = build(groups["benchmark"], "benchmark")
        ends = {"untrained": untrained, "trained": trained}
        test = pixels(benchmark, config.global_size) | {n: score(benchmark, config, net) for n, net in ends.items()}
    ours = pixels(between, config.global_size) | {"untrained": points[0][3], "trained": points[-1][3]}
    return Curve(data, recipe, seed, points, ours, test, spent, lasted, groups["ssl"], commit)


def write(curve: Curve, out: Path) -> None:
    """The curve as CSV, and all numbers as JSON."""
    with open(out / f"{curve.name}.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", "images", "cpu_seconds", "knn_held_out"])
        writer.writerows((step, images, round(cpu, 1), round(knn, 5)) for step, images, cpu, knn in curve.points)
    about = {
        "data": curve.data,
        "recipe": curve.recipe,
        "seed": curve.seed,
        "held_out": curve.held_out,
        "test": curve.test,
        "cpu_seconds": round(curve.cpu_seconds),
        "wall_seconds": round(curve.wall_seconds),
        "command": " ".join(["python -m strata.experiments.benchmarks.ssl_learns", *sys.argv[1:]]),
        "commit": curve.commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "settings": curve.settings,
    }
    (out / f"{curve.name}.json").write_text(json.dumps(about, indent=1) + "\n")


def report(out: Path) -> None:
    """README.md and curves.png, of all runs that lie in the folder."""
    runs = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    parts = " | ".join(f"{part}: {' | '.join(BARS)}" for part in ("held out", "test"))
    lines = [
        "# It learns: k-NN from random weights",
        "",
        "Top-1 of knn-v1 (k = 20, class token) in percent. Held out: rows of the training pool that are not trained on; "
        "recipes were chosen on them. Test: the benchmark's own splits, read once at the end, by finished recipes. "
        "Pixels: the same vote on raw pixels; centered: less the mean image. Commands, commits and settings are in the "
        "JSON files.",
        "",
        f"| data | recipe | seed | {parts} | CPU-minutes |",
        "|" + "---|" * (2 * len(BARS) + 4),
    ]
    for run in runs:
        numbers = [run[part].get(bar) for part in ("held_out", "test") for bar in BARS]
        cells = ["–" if number is None else f"{100 * number:.1f}" for number in numbers]
        minutes = f"{run['cpu_seconds'] / 60:.0f}"
        lines.append(f"| {run['data']} | {run['recipe']} | {run['seed']} | {' | '.join(cells)} | {minutes} |")
    (out / "README.md").write_text("\n".join(lines) + "\n\n![curves](curves.png)\n")
    _draw(runs, out)


def _draw(runs: list[dict[str, Any]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({run["data"] for run in runs})
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        here = [run for run in runs if run["data"] == name]
        recipes = list(dict.fromkeys(run["recipe"] for run in here))
        for run in here:
            table = np.genfromtxt(out / f"{name}_{run['recipe']}_{run['seed']}.csv", delimiter=",", names=True)
            first = run is next(other for other in here if other["recipe"] == run["recipe"])
            axis.plot(
                table["cpu_seconds"] / 60, 100 * table["knn_held_out"], marker="o", ms=3, lw=1,
                color=f"C{recipes.index(run['recipe'])}", label=run["recipe"] if first else None,
            )  # fmt: skip
        bars = here[0]["held_out"]
        for bar, label, style in (("pixels", "pixels", ":"), ("centered", "pixels, centered", "--")):
            axis.axhline(100 * bars[bar], color="0.4", ls=style, lw=1, label=label)
        axis.set(title=f"{name}, held-out rows of the pool", xlabel="CPU-minutes, one thread", ylabel="k-NN top-1, %")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(out / "curves.png", dpi=130)


def main() -> None:
    """Run, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="digits, tinyimagenet_lt; none: only draw what lies in --out")
    parser.add_argument("--recipe", action="append", help="of configs/ssl; default: those made for the data")
    parser.add_argument(
        "--change", nargs="+", default=[], help="settings of ssl, as koleo_weight=0.5; test is not read"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path("runs/ssl_learns"), help="folder for the backbones")
    parser.add_argument("--out", type=Path, default=Path("results/ssl_learns"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for data in given.data:
        for recipe in given.recipe or RECIPES[data]:
            for seed in given.seeds:
                write(learn(data, recipe, seed, given.work, given.change), given.out)
    report(given.out)


if __name__ == "__main__":
    main()
