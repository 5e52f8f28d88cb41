"""Stage ``extend``: new rows put into the clusters of a hierarchy, after the rows it has."""

from typing import Any

from strata.curation.artifact import create_artifact
from strata.curation.hierarchy import Hierarchy
from strata.curation.store import EmbeddingStore
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Assign ``inputs.embeddings`` to the nearest level-1 centroids of ``inputs.hierarchy``; centroids stay."""
    hierarchy, rows = Hierarchy.load(task.inputs["hierarchy"]), EmbeddingStore.open(task.inputs["embeddings"])
    grown = hierarchy.extend(*hierarchy.assign(rows, metric=task.config["metric"]))
    with create_artifact(task.out, "hierarchy", key=task.key, inputs=task.input_keys, config=task.config) as draft:
        grown.write(draft)
