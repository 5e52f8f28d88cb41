"""Stage ``evaluate``: one protocol on the features of one benchmark."""

from typing import Any

from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 2  # features come in a folder for each split


def run(task: Task, on_metrics: Any = None) -> None:
    """Score the features, one input for each split, with the protocol of the config."""
    protocol = build(task.config["protocol"], "protocol")
    protocol.run(
        task.inputs,
        task.out,
        benchmark=task.config["benchmark"],
        device=task.runtime["device"],
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
