"""The collapse alarm on trial: silent on healthy runs, loud on runs made to collapse, over several seeds.

    python -m strata.experiments.benchmarks.collapse

Every recipe is configs/ssl/dinov2_micro.yaml on a rendered pool, with the changes that the table names. Writes
results/ssl_health/collapse.md; exits with 1 if an alarm was false or missing.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from strata.curation.pools.rendered import RenderedPool
from strata.experiments.execute import git_commit
from strata.ssl.image.alarm import AlarmConfig, CollapsedRun
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain

RECIPES = Path(__file__).parents[2] / "configs" / "ssl"
HEALTHY: dict[str, dict[str, Any]] = {
    "as it is (Sinkhorn)": {},
    "softmax centering": {"centering": "softmax"},
    "method=simclr": {"method": "simclr", "n_local": 0, "ibot_weight": 0.0, "student_temperature": 0.2},
}
ILL: dict[str, dict[str, Any]] = {
    "centering off": {"centering": "none", "koleo_weight": 0.0},
    "teacher temperature 1, the student's 0.1": {"teacher_temperature": 1.0, "teacher_temperature_start": 1.0},
    "learning rate x 100": {"base_lr": 0.8, "clip_grad": 0.0},
}
UNDECIDED: dict[str, dict[str, Any]] = {"centering off, KoLeo left on": {"centering": "none"}}  # KoLeo holds against it
MEASURES = (("effective_rank", min), ("mean_cosine", max), ("target_information", min))


@dataclass(frozen=True)
class Outcome:
    """One run: the steps it made, why it was stopped (empty: it was not), and the worst of each measure after warm-up."""

    seed: int
    steps: int
    reason: str
    worst: dict[str, float]


def trial(changes: dict[str, Any], seed: int, steps: int, images: int) -> Outcome:
    """Train once in a temporary folder."""
    values = yaml.safe_load((RECIPES / "dinov2_micro.yaml").read_text()) | changes
    config = ImageSSLConfig(**{**values, "steps": steps, "warmup_steps": min(values["warmup_steps"], steps // 4)})
    with tempfile.TemporaryDirectory() as folder:
        out, reason = Path(folder) / "run", ""
        try:
            pretrain(
                config, RenderedPool(images), np.arange(images), out,
                seed=seed, num_threads=1, log_every=5, progress=False, device="cpu",
            )  # fmt: skip
        except CollapsedRun as error:
            reason, out = str(error).split(": ", 1)[1].split(", at ")[0], Path(folder) / "run.failed"
        log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    watched = [line for line in log if line["step"] > config.warmup_steps]
    worst = {name: pick(line[name] for line in watched) for name, pick in MEASURES if name in watched[0]}
    return Outcome(seed, log[-1]["step"], reason, worst)


def rows(name: str, outcomes: list[Outcome]) -> list[str]:
    """The table's lines of one recipe."""
    lines = []
    for o in outcomes:
        worst = [f"{o.worst[m]:.3f}" if m in o.worst else "–" for m, _ in MEASURES]
        lines.append(f"| {name} | {o.seed} | {o.steps} | {' | '.join(worst)} | {o.reason or 'silent'} |")
    return lines


def main() -> None:
    """Run all, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=Path("results/ssl_health/collapse.md"))
    given = parser.parse_args()
    started, body, wrong = time.process_time(), [], 0
    for kind, recipes in (("Healthy", HEALTHY), ("Made to collapse", ILL), ("No verdict", UNDECIDED)):
        alarms, table = 0, []
        for name, changes in recipes.items():
            outcomes = [trial(changes, seed, given.steps, given.images) for seed in range(given.seeds)]
            table += rows(name, outcomes)
            alarms += sum(bool(o.reason) for o in outcomes)
            print("\n".join(table[-given.seeds :]), flush=True)
        total = given.seeds * len(recipes)
        wrong += {"Healthy": alarms, "Made to collapse": total - alarms, "No verdict": 0}[kind]
        head = ["recipe", "seed", "steps", *(f"worst {m}" for m, _ in MEASURES), "alarm"]
        body += [f"## {kind}: the alarm went off in {alarms} of {total}", "", f"| {' | '.join(head)} |"]
        body += ["|" + "---|" * len(head), *table, ""]
    limits = AlarmConfig()
    text = [
        "# The collapse alarm",
        "",
        f"`{' '.join(['python -m strata.experiments.benchmarks.collapse', *sys.argv[1:]])}`, commit {git_commit()}, "
        f"{platform.machine()} with {os.cpu_count()} cores, one thread, {time.process_time() - started:.0f} CPU-seconds.",
        "",
        f"configs/ssl/dinov2_micro.yaml, {given.steps} steps on {given.images:,} rendered images; measured every 5 steps. "
        f"Limits, as they are by default: effective_rank below {limits.min_rank:g}, mean_cosine above {limits.max_cosine:g}, "
        f"target_information below {limits.min_information:g}, at {limits.patience} logged steps in a row after the warm-up.",
        "",
        *body,
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(text))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
