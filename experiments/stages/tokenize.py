"""Stage ``tokenize``: the documents of a pool as token ids."""

from typing import Any

from strata.curation.text.tokens import tokenize
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Encode ``inputs.pool`` by ``inputs.tokenizer``."""
    tokenize(
        open_pool(task, "pool"),
        task.inputs["tokenizer"],
        task.out,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
        progress=task.runtime["progress"],
    )
