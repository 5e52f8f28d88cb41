"""Collect what an experiment's finished stages say, as one long list of values."""

import csv
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow.parquet as pq

from strata.eval.protocols.base import Protocol
from strata.experiments.build import build
from strata.experiments.plan import Plan, Run
from strata.experiments.store import Store

BALANCE = ("normalized_entropy", "effective_classes", "coverage")


@dataclass(frozen=True)
class Value:
    """One number of one run. ``value`` is None for what was not run."""

    arm: str
    seed: int
    group: str  # "data" or the benchmark's name
    metric: str  # "images", a balance measure, or protocol and metric as "knn-v1 top1"
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    stage: str = ""  # key of the stage that made it


def collect(plan: Plan, store: Store) -> list[Value]:
    """Every number of every run of the plan; what is not finished gives None under the same names."""
    values: list[Value] = []
    for run in plan.runs:
        values += _data(run, store.path(run.sample))
        for (benchmark, protocol), stage in run.scores.items():
            file = store.path(stage) / "scores.json"
            if not file.is_file():
                measure: Protocol = build(stage.config["protocol"], f"protocols.{protocol}")
                names = [f"{measure.id}-v{measure.version} {name}" for name in measure.metrics_of(stage.inputs)]
                values += [Value(run.arm, run.seed, benchmark, name, None, stage=stage.key) for name in names]
                continue
            for score in json.loads(file.read_text()):
                metric = f"{score['protocol']}-v{score['version']} {score['metric']}"
                values.append(
                    Value(
                        run.arm,
                        run.seed,
                        benchmark,
                        metric,
                        score["value"],
                        score["ci_low"],
                        score["ci_high"],
                        score["n"],
                        stage.key,
                    )
                )
    return values


def _data(run: Run, subset: Path) -> list[Value]:
    arm, seed, key = run.arm, run.seed, run.sample.key
    if not (subset / "manifest.json").is_file():
        names = ("images", *BALANCE) if run.sample.runtime["labelled"] else ("images",)
        return [Value(arm, seed, "data", name, None, stage=key) for name in names]
    images = pq.read_metadata(subset / "subset.parquet").num_rows
    values = [Value(arm, seed, "data", "images", images, stage=key)]
    if (subset / "balance.json").is_file():
        balance = json.loads((subset / "balance.json").read_text()).get("labels", {}).get("subset", {})
        values += [Value(arm, seed, "data", name, balance[name], stage=key) for name in BALANCE if name in balance]
    return values


def write_values(values: list[Value], path: Path) -> None:
    """The long list as CSV: one row per number, with the key of its stage for `strata why`."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Value)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(value) for value in values)
