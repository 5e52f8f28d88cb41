"""Stage ``features``: a frozen backbone over one split of a benchmark, once for all protocols and benchmarks that read it."""

from typing import Any

from strata.eval.backbone import load_backbone
from strata.eval.extract import extract_features
from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 2  # a folder for each split


def run(task: Task, on_metrics: Any = None) -> None:
    """Features of ``runtime.split`` of ``runtime.benchmark`` by ``inputs.backbone`` (or ``runtime.backbone``)."""
    runtime = task.runtime
    benchmark = build(runtime["benchmark"], "benchmark")
    backbone = load_backbone(
        task.inputs.get("backbone") or runtime["backbone"],
        runtime["device"],
        image_size=task.config.get("image_size"),
    )
    extract_features(
        backbone,
        {runtime["split"]: benchmark.splits[runtime["split"]]},
        task.out,
        key=task.key,
        inputs=task.input_keys | runtime.get("made_by", {}),
        config=task.config,
        batch_size=runtime["batch_size"],
        num_workers=runtime["num_workers"],
        processes=runtime["processes"],
        device=runtime["device"],
        dtype=task.config["dtype"],
        patches=task.config.get("patches", 0),
        labelled=benchmark.labelled,
    )
