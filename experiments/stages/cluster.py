"""Stage ``cluster``: hierarchical k-means of an embedding store."""

from typing import Any

from strata.curation import EmbeddingStore, HierarchicalKMeans
from strata.experiments.stage import Task

VERSION = 4


def run(task: Task, on_metrics: Any = None) -> None:
    """Cluster ``inputs.embeddings`` with the hierarchy of the config."""
    store = EmbeddingStore.open(task.inputs["embeddings"])
    model = HierarchicalKMeans(
        **task.config["hierarchy"],
        **task.runtime["hierarchy"],
        random_state=task.config["seed"],
        device=task.runtime["device"],
        verbose=task.runtime["progress"],
    ).fit(store)
    model.hierarchy_.save(task.out, key=task.key, inputs=task.input_keys, config=task.config)
