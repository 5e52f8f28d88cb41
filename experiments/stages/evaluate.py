"""Stage ``evaluate``: one protocol on the features of one benchmark."""

from typing import Any

from strata.experiments.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Score ``inputs.features`` with the protocol of the config."""
    protocol = build(task.config["protocol"], "protocol")
    protocol.run(
        task.inputs["features"],
        task.out,
        benchmark=task.config["benchmark"],
        device=task.runtime["device"],
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
