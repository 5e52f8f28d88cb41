"""Collect what a text experiment's finished stages say, as one long list of values."""

import json

from strata.experiments.comparison.values import Value
from strata.experiments.planning.plan import Plan
from strata.experiments.store import Store


def collect_text(plan: Plan, store: Store) -> list[Value]:
    """Every number of every run that is finished: of the data (group "data"), of held-out documents, tasks and probes."""
    values: list[Value] = []
    for run in plan.runs:
        for (group, what), stage in run.scores.items():
            folder = store.path(stage)
            if not store.done(stage):
                continue
            if what == "profile":
                told = json.loads((folder / "profile.json").read_text())
                numbers = {name: value for name, value in told.items() if name != "shares"}
                values += [
                    Value(run.arm, run.seed, group, name, value, stage=stage.key) for name, value in numbers.items()
                ]
                continue
            for score in json.loads((folder / "scores.json").read_text()):
                metric = f"{score['protocol']}-v{score['version']} {score['metric']}"
                ends = (score["ci_low"], score["ci_high"], score["n"])
                values.append(Value(run.arm, run.seed, score["benchmark"], metric, score["value"], *ends, stage.key))
        values += _trained(run.arm, run.seed, run.pretrain, store)
    return values


def _trained(arm: str, seed: int, stage: object, store: Store) -> list[Value]:
    """Epochs over the subset, the loss at the end, and the speed."""
    from strata.experiments.stage import Stage

    if not isinstance(stage, Stage) or not store.done(stage):
        return []
    manifest = json.loads((store.path(stage) / "manifest.json").read_text())
    lines = [json.loads(line) for line in (store.path(stage) / "metrics.jsonl").read_text().splitlines()]
    tail = lines[-max(1, len(lines) // 10) :]
    found = {
        "epochs": manifest["epochs"],
        "first_loss": lines[0]["loss"],
        "last_loss": sum(line["loss"] for line in tail) / len(tail),
        "tokens_per_s": lines[-1]["tokens_per_s"],
        "mfu": lines[-1]["mfu"],
    }
    return [Value(arm, seed, "training", name, value, stage=stage.key) for name, value in found.items()]
