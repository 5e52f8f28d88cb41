"""Stage ``lm_tasks``: the benchmarks of a language model, one score each."""

from typing import Any

from strata.eval.text.evaluate import evaluate_tasks
from strata.eval.text.model import load_language_model
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Score ``inputs.model`` on the tasks of the config."""
    evaluate_tasks(
        load_language_model(task.inputs["model"], task.runtime["device"]),
        task.config["names"],
        task.out,
        limit=task.config["limit"],
        shots=task.config["shots"],
        seed=task.config["seed"],
        scorer=task.config["scorer"],
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
