"""Stage ``sample``: choose rows of a pool, and say how balanced the choice is where there are labels."""

from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.samplers.request import Inputs
from strata.curation.store import EmbeddingStore
from strata.curation.subset import write_subset
from strata.experiments.planning.references import REFERENCES, metadata_column
from strata.experiments.settings.build import build
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 2  # 2: rows are those of the readable part of the pool


def run(task: Task, on_metrics: Any = None) -> None:
    """Draw ``config.size`` rows of ``inputs.pool`` with the sampler of the config."""
    pool = open_pool(task, "pool")  # rows are those of the readable pool, as for embed and pretrain
    labels = np.full(len(pool), -1) if pool.labels is None else pool.labels
    hierarchy = Hierarchy.load(task.inputs["hierarchy"]) if "hierarchy" in task.inputs else None
    has_labels = bool((labels >= 0).any())
    sampler = build(task.config["sampler"], "sampler")
    given: Inputs = {"hierarchy": hierarchy, "labels": labels if has_labels else None}
    if "metadata" in sampler.needs:
        given["metadata"] = metadata_column(pool, sampler.column)
    for role in {"embeddings", *REFERENCES} & task.inputs.keys():
        given[role] = EmbeddingStore.open(task.inputs[role])  # type: ignore[literal-required]
    try:
        selection = sampler.select(
            task.config["size"],
            size=len(pool),
            random_state=task.config["seed"],
            **given,
        )
    except ConfigError as error:
        if error.field != "sample.size":
            raise
        # Named as the user set it. Planning has checked it against all items; some may since have proved unreadable.
        raise ConfigError("size", f"{error.problem} ({len(pool)} items of the pool can be read)", error.fix) from error
    write_subset(
        task.out,
        selection,
        ids=pool.ids,
        labels=labels if has_labels else None,
        label_names=pool.label_names,
        hierarchy=hierarchy,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
