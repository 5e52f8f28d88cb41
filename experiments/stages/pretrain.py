"""Stage ``pretrain``: self-supervised training on a subset of a pool."""

from collections.abc import Callable

from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.band_statistics import BandStatistics
from strata.curation.subset import read_subset
from strata.experiments.planning.online import LOG_EVERY, online_probe
from strata.experiments.settings.build import typed
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool
from strata.ssl.image.bands import fit_to_bands
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain

# 2: crops have torchvision's pixels and distributions; masks and stochastic depth of an image do not depend on how a
# step is split; losses in float32
VERSION = 2


def run(task: Task, on_metrics: Callable[[dict[str, float], int], None] | None = None) -> None:
    """Train on the rows of ``inputs.subset`` of ``inputs.pool``; every arm runs the same number of steps.

    With ``inputs.hierarchy`` batches are drawn by its weights (``ssl.sampling``), not in epochs. ``inputs.bands`` are the
    statistics of the pool's bands, of tiles or where the recipe has no mean.
    """
    selection, pool = read_subset(task.inputs["subset"]), open_pool(task, "pool")
    bands = BandStatistics.load(task.inputs["bands"] / "bands.json") if "bands" in task.inputs else None
    recipe, _ = fit_to_bands(typed(ImageSSLConfig, task.config["ssl"] | task.runtime["ssl"], "ssl"), pool, bands)
    online = task.runtime.get("online", {})
    pretrain(
        recipe,
        pool,
        selection.rows,
        task.out,
        seed=task.config["seed"],
        repeats=selection.repeats,
        bands=bands,
        hierarchy=Hierarchy.load(task.inputs["hierarchy"]) if "hierarchy" in task.inputs else None,
        key=task.key,
        inputs=task.input_keys,
        device=task.runtime["device"],
        log_every=LOG_EVERY,
        probe=online_probe(online, recipe),
        probe_every=online.get("every", LOG_EVERY),
        on_metrics=on_metrics,
        cache_dir=task.runtime["decoded"],
        progress=task.runtime["progress"],
    )
