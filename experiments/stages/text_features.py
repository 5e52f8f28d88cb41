"""Stage ``text_features``: a frozen language model over the texts of a benchmark, once for all protocols."""

from typing import Any

from strata.eval.text.features import extract_text_features
from strata.eval.text.model import load_language_model
from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Features of both splits of ``runtime.benchmark`` by ``inputs.model``."""
    benchmark = build(task.runtime["benchmark"], "benchmark")
    extract_text_features(
        load_language_model(task.inputs["model"], task.runtime["device"]),
        {"train": benchmark.train, "test": benchmark.test},
        task.out,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
        dtype=task.config["dtype"],
    )
