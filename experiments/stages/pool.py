"""Stage ``pool``: read every item once, list ids, labels and what cannot be read. The images are not copied."""

from typing import Any

from strata.curation.pools.base import Pool
from strata.curation.pools.inventory import readable, take_inventory
from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Write the inventory of ``runtime.pool``."""
    pool = build(task.runtime["pool"], "pool")
    take_inventory(pool, task.out, key=task.key, config=task.config, on_error=task.config["on_error"])


def open_pool(task: Task, role: str) -> Pool:
    """The readable part of the pool that the input ``role`` took the inventory of."""
    return readable(build(task.runtime["pools"][role], role), task.inputs[role])
