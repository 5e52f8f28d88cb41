"""Stage ``embed``: a pool through an encoder into an embedding store; a pool of vectors is linked as it is."""

from typing import Any

from strata.curation.embed import embed
from strata.curation.given import store_given
from strata.curation.pools.content import kind_of
from strata.experiments.settings.build import build
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def _encoder(task: Task) -> Any:
    """Of the config; one that another arm of the experiment trains is opened from ``inputs.backbone``."""
    settings, trained = task.runtime["encoder"], task.inputs.get("backbone")
    return build(settings if trained is None else {**settings, "path": str(trained)}, "encoder")


def run(task: Task, on_metrics: Any = None) -> None:
    """Embed ``inputs.pool`` with the encoder of the config."""
    pool = open_pool(task, "pool")
    if kind_of(pool) == "vectors":
        store_given(
            pool, task.out, dtype=task.config["dtype"], key=task.key, inputs=task.input_keys, config=task.config
        )
        return
    embed(
        pool,
        _encoder(task),
        task.out,
        key=task.key,
        inputs=task.input_keys,
        config=task.config,
        dtype=task.config["dtype"],
        batch_size=task.runtime["batch_size"],
        num_workers=task.runtime["num_workers"],
        device=task.runtime["device"],
        progress=task.runtime["progress"],
        like=task.inputs.get("like"),
    )
