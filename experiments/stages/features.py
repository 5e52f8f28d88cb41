"""Stage ``features``: a frozen backbone over the splits of a benchmark, once for all protocols."""

from typing import Any

from strata.eval.backbone import load_backbone
from strata.eval.extract import extract_features
from strata.experiments.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Features of both splits of ``runtime.benchmark`` by ``inputs.backbone`` (or ``config.backbone``)."""
    benchmark = build(task.runtime["benchmark"], "benchmark")
    backbone = load_backbone(task.inputs.get("backbone") or task.runtime["backbone"], task.runtime["device"])
    extract_features(
        backbone,
        {"train": benchmark.train, "test": benchmark.test},
        task.out,
        key=task.key,
        inputs=task.input_keys | task.runtime.get("made_by", {}),
        config=task.config,
        batch_size=task.runtime["batch_size"],
        num_workers=task.runtime["num_workers"],
        device=task.runtime["device"],
        dtype=task.config["dtype"],
    )
