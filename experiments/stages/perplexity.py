"""Stage ``perplexity``: bits per byte and perplexity of held-out documents, per source."""

from typing import Any

from strata.eval.text.model import load_language_model
from strata.eval.text.perplexity import perplexity
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Score ``inputs.model`` on ``inputs.tokens`` of ``inputs.pool``."""
    perplexity(
        load_language_model(task.inputs["model"], task.runtime["device"]),
        open_pool(task, "pool"),
        task.inputs["tokens"],
        task.out,
        name=task.config["name"],
        per_source=task.config["per_source"],
        seed=task.config["seed"],
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
