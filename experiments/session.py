"""What the commands share: a composed config as plain containers, and the store, tracker and runner it asks for."""

import hashlib
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from strata.curation.errors import ConfigError
from strata.experiments.planning.plan import Plan
from strata.experiments.runner import Runner
from strata.experiments.settings.places import check_runs
from strata.experiments.store import Store

JOBS = 64  # at once in a cluster's queue


def plain(config: DictConfig) -> dict[str, Any]:
    """The config with interpolations resolved. A value that must be given and is not is an error naming it."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(missing[0], "not given", f"add {missing[0]}=VALUE")
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items()}


def open_store(config: dict[str, Any]) -> Store:
    """The stage store of the config's runs folder."""
    return Store(Path(config["paths"]["runs"]) / "store")


def open_runner(config: dict[str, Any], store: Store, name: str) -> Runner:
    """A runner as ``runner.*`` and ``wandb.*`` say.

    Raises:
        ConfigError: nothing can be written to the runs folder.
    """
    check_runs(config)
    runs = Path(config["paths"]["runs"]).absolute()
    tracking = {**config["wandb"], "group": name, "directory": str(runs / "wandb_files")}
    return Runner(
        store, tracking, worker_count(config), config["runner"]["threads"], runs / "logs", config["runner"]["cluster"]
    )


def worker_count(config: dict[str, Any]) -> int:
    """``runner.workers`` as a number."""
    settings = config["runner"]
    if settings["workers"] != "auto":
        return int(settings["workers"])
    if settings["cluster"]:
        return JOBS
    return max(1, (os.cpu_count() or 1) // settings["threads"]) if settings["device"] == "cpu" else 1


def report_folder(plan: Plan, config: dict[str, Any]) -> Path:
    """``<runs>/<experiment>/<hash of its stages>``: other settings, another folder."""
    digest = hashlib.sha256("".join(stage.key for stage in plan.stages).encode()).hexdigest()[:8]
    return Path(config["paths"]["runs"]).absolute() / plan.name / digest
