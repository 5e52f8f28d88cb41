"""Stage ``sample_tokens``: random documents with as many tokens as another subset: the control of equal tokens.

Balancing changes how long documents are, so a random subset of equal documents has another number of tokens.
"""

from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.curation.subset import Selection, read_subset, write_subset
from strata.curation.text.tokens import TokenStore
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Rows of ``inputs.pool`` in random order until they hold the tokens of ``inputs.like``, within half a document."""
    pool, store = open_pool(task, "pool"), TokenStore.open(task.inputs["tokens"])
    like = read_subset(task.inputs["like"])
    wanted = int((store.lengths[like.rows] * like.repeats).sum())
    order = np.random.default_rng((task.config["seed"], 1)).permutation(len(store))
    held = np.cumsum(store.lengths[order])
    if held[-1] < wanted:
        problem = f"{wanted:,} tokens are wanted of a pool of {held[-1]:,}"
        raise ConfigError("match_tokens", problem, "match an arm without repeats")
    count = int(np.abs(held - wanted).argmin()) + 1
    write_subset(
        task.out,
        Selection.of(order[:count]),
        ids=pool.ids,
        labels=pool.labels,
        label_names=pool.label_names,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
    )
