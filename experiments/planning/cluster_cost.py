"""Cost of a ``cluster`` stage, before it runs: the model of ``strata.curation.cost``, and this machine's speed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.curation.cost.calibrate import calibrated, calibration_file
from strata.curation.cost.fit import cost_of_fit, peak_memory, total_seconds
from strata.curation.cost.work import Rates
from strata.curation.device import resolve_device
from strata.curation.pools.base import Pool
from strata.experiments.settings.build import build

CALIBRATION = "calibration"  # folder in the runs folder
UNIT = 2e8  # of a cluster stage's work per second of the machine that ``Rates()`` describes
_TYPICAL = 20_000, 128, {"n_clusters": [1000, 200, 50], "n_resamples": 5, "resample_size": 3}


def dimension(settings: Mapping[str, Any], pool: Pool) -> int | None:
    """Length of an embedding, if the pool or the encoder knows it before anything is embedded."""
    known = getattr(build(settings["encoder"], "encoder"), "dim", 0) or getattr(pool, "dim", 0)
    return int(known) or None


def cluster_cost(n: int, d: int, hierarchy: Mapping[str, Any]) -> tuple[float, float]:
    """(work, peak bytes) of a fit: work is the time that the reference machine would take, times ``UNIT``."""
    levels = cost_of_fit(n, d, hierarchy)
    return UNIT * total_seconds(levels, Rates()), peak_memory(levels)


def cluster_rates(runs: Path, device: str, calibrate: bool) -> list[float]:
    """Work per second of this machine by its calibration (how it compares on a typical fit); none if there is none."""
    folder, name = runs / CALIBRATION, str(resolve_device(device))
    if not calibrate and not calibration_file(folder, name).is_file():
        return []
    rates, levels = calibrated(folder, name), cost_of_fit(*_TYPICAL)
    return [UNIT * total_seconds(levels, Rates()) / total_seconds(levels, rates)]
