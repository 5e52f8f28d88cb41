"""Stage ``pretrain``: self-supervised training on a subset of a pool."""

from collections.abc import Callable
from typing import Any

from strata.curation.hierarchy import Hierarchy
from strata.curation.subset import read_subset
from strata.experiments.build import build, typed
from strata.experiments.online_knn import OnlineKNN, held_out
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain

# 2: crops have torchvision's pixels and distributions; masks and stochastic depth of an image do not depend on how a
# step is split; losses in float32
VERSION = 2


def run(task: Task, on_metrics: Callable[[dict[str, float], int], None] | None = None) -> None:
    """Train on the rows of ``inputs.subset`` of ``inputs.pool``; every arm runs the same number of steps.

    With ``inputs.hierarchy`` batches are drawn by its weights (``ssl.sampling``), not in epochs.
    """
    selection = read_subset(task.inputs["subset"])
    config = typed(ImageSSLConfig, task.config["ssl"] | task.runtime["ssl"], "ssl")
    online = task.runtime.get("online_knn")
    pretrain(
        config,
        open_pool(task, "pool"),
        selection.rows,
        task.out,
        seed=task.config["seed"],
        repeats=selection.repeats,
        hierarchy=Hierarchy.load(task.inputs["hierarchy"]) if "hierarchy" in task.inputs else None,
        key=task.key,
        inputs=task.input_keys,
        device=task.runtime["device"],
        probe=None if online is None else _online_knn(online["pool"], config),
        probe_every=1_000 if online is None else online["every"],
        on_metrics=on_metrics,
        cache_dir=task.runtime["decoded"],
        progress=task.runtime["progress"],
    )


def _online_knn(pool_config: dict[str, Any], config: ImageSSLConfig) -> OnlineKNN:
    """k-NN on a fifth of a labelled pool among the rest; at most 4,000 rows of each."""
    bank, queries = held_out(build(pool_config, "online_knn"), 0.2, seed=0, limit=4_000)
    return OnlineKNN(bank, queries, size=config.global_size, mean=config.mean, std=config.std)
