"""Stage ``codebook``: points that stand for an embedding store, by another method than hierarchical k-means."""

from typing import Any

import numpy as np

from strata.curation import EmbeddingStore
from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Fit ``config.codebook`` to ``inputs.embeddings``."""
    rows = np.asarray(EmbeddingStore.open(task.inputs["embeddings"]), np.float64)
    found = build(task.config["codebook"], "codebook").fit(rows, task.config["seed"])
    found.save(task.out, key=task.key, inputs=task.input_keys, config=task.config)
