"""Stage ``tokenizer``: BPE trained on the raw pool, or a given tokenizer; all arms share it."""

from typing import Any

from strata.curation.text.tokenizer import take_tokenizer, train_tokenizer
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Train on ``inputs.pool``, or copy ``config.path``."""
    said: dict[str, Any] = {"key": task.key, "inputs": task.input_keys, "config": task.config}
    settings = dict(task.config)
    if settings.get("path") is not None:
        take_tokenizer(task.runtime["path"], task.out, revision=settings["revision"], **said)
        return
    train_tokenizer(
        open_pool(task, "pool"),
        task.out,
        **{name: settings[name] for name in ("vocab_size", "min_frequency", "max_documents", "seed")},
        **said,
    )
