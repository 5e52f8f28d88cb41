"""`strata curate ... plan=true`: what clustering a pool would take, from its size or from numbers alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.curation.cost.amounts import parse_size
from strata.curation.cost.calibrate import calibrated, read_rates
from strata.curation.cost.fit import cost_of_fit
from strata.curation.cost.report import describe
from strata.curation.cost.splits import proposals
from strata.curation.cost.work import Rates
from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError
from strata.curation.levels import resolve_levels
from strata.experiments.planning.checks_stages import check_hierarchy
from strata.experiments.planning.cluster_cost import CALIBRATION, dimension
from strata.experiments.planning.own_data import as_named, choose_levels, complete, describe_choice, subset_size
from strata.experiments.planning.plan import Pools
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import whole

MOST_ROWS, MOST_FEATURES = 10**12, 10**6


def curation_plan(config: Mapping[str, Any]) -> str:
    """The plan of a ``strata curate`` as text. Writes nothing but the calibration, if there is a runs folder.

    Raises:
        ConfigError: as ``strata curate`` would; or numbers and data are mixed, or d is nowhere.
    """
    if config["n"] is not None:
        config, n, d = _from_numbers(config)
    else:
        config, n, d = _from_data(config)
    whole("d", d, 1, MOST_FEATURES)
    whole("devices", config["devices"], 1, MOST_ROWS)
    if "hierarchy" not in build(config["sampler"], "sampler").needs:
        return f"sampler={config['sampler']['_target_'].rsplit('.', 1)[-1]} uses no clusters: nothing to plan"
    size, threads, devices = config["size"], config["runner"]["threads"], config["devices"]
    settings = resolve_levels(config["hierarchy"], n, size)
    check_hierarchy(settings, n)
    device = str(resolve_device(config["runner"]["device"], "runner.device"))
    memory = parse_size(config["memory"], "memory") if config["memory"] is not None else _memory_of(device)
    rates = _rates(config, device)
    levels, worst = (
        cost_of_fit(n, d, settings, threads=threads, devices=devices, worst=slow) for slow in (False, True)
    )
    better = proposals(levels, d, settings, rates, threads)
    return f"{n:,} rows x {d:,}, {size:,} wanted\n" + describe(
        levels, worst, rates, d=d, threads=threads, devices=devices, memory=memory, better=better
    )


def _from_numbers(config: Mapping[str, Any]) -> tuple[dict[str, Any], int, Any]:
    for name in ("data", "pool"):
        if config.get(name) is not None:
            raise ConfigError("n", f"{config['n']}, but {name} is given too", f"leave out n, or {name}")
    whole("n", config["n"], 1, MOST_ROWS)
    n = int(config["n"])
    if config["d"] is None:
        raise ConfigError("d", "not given", "add d=FEATURES of an embedding")
    full = dict(config) | {"size": subset_size(config), "hierarchy": choose_levels(config)}
    whole("size", full["size"], 1, n)
    return full, n, config["d"]


def _from_data(config: Mapping[str, Any]) -> tuple[dict[str, Any], int, Any]:
    pools = Pools()
    with as_named(config):
        full = complete(config, pools)
        pool = pools.open(full["pool"], "pool")
        whole("size", full["size"], 1, len(pool))
    print(describe_choice(full, pool))
    d = dimension(full, pool) if config["d"] is None else config["d"]
    if d is None:
        raise ConfigError("d", "not known before the encoder has run", "add d=FEATURES of an embedding")
    return full, len(pool), d


def _rates(config: Mapping[str, Any], device: str) -> Rates:
    if config["rates"] is not None:
        return read_rates(Path(str(config["rates"])))
    return calibrated(Path(config["paths"]["runs"]) / CALIBRATION, device)


def _memory_of(device: str) -> float:
    """Bytes of the GPU, or of this machine."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
