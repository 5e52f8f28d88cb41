"""Stage ``bands``: statistics of each band of a pool, which trainings on it normalize by."""

from typing import Any

from strata.curation.artifact import create_artifact
from strata.curation.pools.band_statistics import band_statistics
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Write ``bands.json`` of ``inputs.pool``: see ``BandStatistics``."""
    statistics = band_statistics(open_pool(task, "pool"))
    with create_artifact(task.out, "bands", key=task.key, inputs=task.input_keys, config=task.config) as draft:
        statistics.save(draft.path / "bands.json")
        draft.meta.update(n_bands=statistics.n_bands, n_tiles=statistics.n_tiles)
