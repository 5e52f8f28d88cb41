"""Collect what an experiment's finished stages say, as one long list of values."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from strata.eval.protocols.base import Protocol
from strata.experiments.comparison.values import Value
from strata.experiments.planning.plan import Plan, Run
from strata.experiments.settings.build import build
from strata.experiments.store import Store

BALANCE = ("normalized_entropy", "effective_classes", "coverage")


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
