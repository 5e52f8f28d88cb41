"""Stage ``update``: the smallest change of a subset that restores its quotas, after its pool has grown."""

from typing import Any

import numpy as np
import pyarrow as pa

from strata.curation.hierarchy import Hierarchy
from strata.curation.store import EmbeddingStore
from strata.curation.subset import Selection, read_subset, write_subset
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Update ``inputs.old`` to ``config.size`` rows of ``inputs.hierarchy``; ``changes.parquet`` says what changed.

    The other inputs, ``embeddings0`` and on, are the stores of the rows in their order: their ids and labels.
    """
    hierarchy, sampler = Hierarchy.load(task.inputs["hierarchy"]), task.config["sampler"]
    old = read_subset(task.inputs["old"]).indices
    options = {name: sampler[name] for name in ("allocation", "within", "max_repeats")}
    change = hierarchy.update(old, task.config["size"], **options, random_state=task.config["seed"])
    selection = Selection.of(change.rows)
    rows = {name: getattr(change, name) for name in ("added", "dropped")}
    selection.reports["changes"] = pa.table(
        {"row": np.concatenate([*rows.values()]), "change": [name for name, some in rows.items() for _ in some]}
    )
    stores = [EmbeddingStore.open(task.inputs[f"embeddings{number}"]) for number in range(task.runtime["parts"])]
    names = [store.manifest["label_names"] for store in stores]
    labels = [store.labels for store in stores]
    same = all(some is not None for some in labels) and all(some == names[0] for some in names)
    write_subset(
        task.out,
        selection,
        ids=[item for store in stores for item in store.ids],
        labels=np.concatenate([some for some in labels if some is not None]) if same else None,
        label_names=names[0] if same else None,
        hierarchy=hierarchy,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
