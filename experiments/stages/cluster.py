"""Stage ``cluster``: hierarchical k-means of an embedding store. A killed one goes on from its last checkpoint."""

import shutil
from typing import Any

from strata.curation import EmbeddingStore, HierarchicalKMeans
from strata.curation.artifact import create_artifact
from strata.experiments.stage import Task

VERSION = 7  # 7: the accelerated engine compares points with few candidates


def run(task: Task, on_metrics: Any = None) -> None:
    """Cluster ``inputs.embeddings`` with the hierarchy of the config."""
    store = EmbeddingStore.open(task.inputs["embeddings"])
    with create_artifact(task.out, "hierarchy", key=task.key, inputs=task.input_keys, config=task.config) as draft:
        checkpoints = draft.path / "checkpoints"
        model = HierarchicalKMeans(
            **task.config["hierarchy"],
            **task.runtime["hierarchy"],
            random_state=task.config["seed"],
            device=task.runtime["device"],
            verbose=task.runtime["progress"],
            checkpoint_dir=checkpoints,
        ).fit(store)
        model.hierarchy_.write(draft)
        shutil.rmtree(checkpoints)
