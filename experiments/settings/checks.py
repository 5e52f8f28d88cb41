"""Checks of the settings that every command shares, before anything is opened or written."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.settings.build import typed
from strata.experiments.settings.places import check_writable, folder

_WANDB_MODES = ("online", "offline", "disabled")


@dataclass
class EmbedSettings:
    """``embed.*``."""

    dtype: str
    batch_size: int
    num_workers: int


@dataclass
class RunnerSettings:
    """``runner.*``."""

    device: str
    workers: Any
    threads: int
    cluster: dict[str, Any] = field(default_factory=dict)


@dataclass
class WandbSettings:
    """``wandb.*``."""

    mode: str
    project: str
    entity: str = ""
    tags: list[str] = field(default_factory=list)


def check_common(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError for the first of the shared settings that cannot be."""
    sections: dict[str, type] = {"embed": EmbedSettings, "runner": RunnerSettings, "wandb": WandbSettings}
    tags = mapping(config, "wandb").get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigError("wandb.tags", f"{tags!r}", "give a list, e.g. wandb.tags=[trial]")
    for name, schema in sections.items():
        typed(schema, mapping(config, name), name)
    folder(mapping(config, "paths").get("runs"), "paths.runs")
    if config["paths"].get("decoded") is not None:
        check_writable(folder(config["paths"]["decoded"], "paths.decoded"), "paths.decoded")
    one_of("on_error", config.get("on_error"), ("fatal", "skip"))
    embed, runner = config["embed"], config["runner"]
    one_of("embed.dtype", embed["dtype"], ("float32", "float16"))
    whole("embed.batch_size", embed["batch_size"], 1)
    whole("embed.num_workers", embed["num_workers"], 0)
    whole("runner.threads", runner["threads"], 1)
    if runner["workers"] != "auto":
        whole("runner.workers", runner["workers"], 0)
    if runner["cluster"]:
        from strata.experiments.jobs.client import check_cluster  # imports submitit

        check_cluster(runner["cluster"])
        if runner["workers"] == 0:
            raise ConfigError("runner.workers", "is 0, and stages are sent to a cluster", "set how many jobs at once")
    one_of("wandb.mode", config["wandb"]["mode"], ("auto", *_WANDB_MODES))
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", config["wandb"]["project"]):
        raise ConfigError("wandb.project", f"{config['wandb']['project']!r}", "use a name without / \\ # ? % :")
    if config["wandb"]["mode"] == "auto" and os.environ.get("WANDB_MODE"):
        one_of("wandb.mode (the environment's WANDB_MODE)", os.environ["WANDB_MODE"], _WANDB_MODES)
    if runner["device"] not in ("cpu", "auto"):
        from strata.curation.device import resolve_device  # imports torch

        resolve_device(runner["device"], "runner.device")


def check_experiment(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError for the first setting of an experiment that is missing or of the wrong kind."""
    for name in ("arms", "table", "pool", "encoder", "hierarchy", "sampler"):
        mapping(config, name)
    for name, diff in config["arms"].items():
        if diff is not None and not isinstance(diff, Mapping):
            raise ConfigError(f"arms.{name}", f"{diff!r} is no group of settings", f"remove it with ~arms.{name}")
    if config.get("ssl", "") is not None:  # null: nothing is trained, see measured_plan
        mapping(config, "ssl")
        check_probed(config)
    scales = config.get("scales") or ["micro"]
    if config.get("scale", scales[0]) not in scales:
        raise ConfigError("scale", f"{config['name']} has no {config['scale']!r}", f"use one of {', '.join(scales)}")
    if not config["arms"]:
        raise ConfigError("arms", "there are none", "name at least one arm")
    if not isinstance(config.get("name"), str) or not re.fullmatch(r"[\w.-]*\w[\w.-]*", config["name"]):
        raise ConfigError("name", f"{config.get('name')!r}", "use letters, digits, '-', '_' and '.'")
    seeds = config.get("seeds")
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError("seeds", f"{seeds!r}", "give a list, e.g. seeds=[0,1,2]")
    for seed in seeds:
        whole("seeds", seed, 0, 2**32 - 1)
    if len(set(seeds)) != len(seeds):
        raise ConfigError("seeds", f"{seeds} has a seed twice", "give each once")
    whole("size", config.get("size"), 1)


def check_probed(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError unless ``benchmarks`` and ``protocols`` are groups of groups of settings."""
    for group in ("benchmarks", "protocols"):
        for name, value in mapping(config, group).items():
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{group}.{name}", f"{value!r} is no group of settings", f"remove it with ~{group}.{name}"
                )


# The arms of configs/arms/standard.yaml
STANDARD_ARMS = ("raw", "random", "hand", "flat", "hierarchical")


def check_table(config: Mapping[str, Any], metrics: Collection[str]) -> None:
    """Raise a ConfigError if the table asks for arms that there are not, or metrics that no protocol gives."""
    for name, known, what in (("metrics", metrics, "metric of these protocols"), ("controls", config["arms"], "arm")):
        values = config["table"].get(name)
        if not isinstance(values, list):
            raise ConfigError(
                f"table.{name}", f"{values!r}", f"give a list, e.g. table.{name}=[{next(iter(known), '')}]"
            )
        for value in values:
            if name == "controls" and value in STANDARD_ARMS:
                continue  # an arm that was removed: there is nothing to compare with, and no typo
            if value not in known and (known or name == "controls"):
                raise ConfigError(f"table.{name}", f"{value!r} is no {what}", f"use some of {', '.join(known)}")


def mapping(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The group of settings ``name``."""
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise ConfigError(name, f"{value!r} is no group of settings", f"leave {name} as its file has it")
    return value


def one_of(field_name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(field_name, f"{value!r} is unknown", f"use one of {', '.join(choices)}")


def whole(field_name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise a ConfigError unless ``value`` is an integer from ``least`` to ``most``."""
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most)
    if not fine:
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(field_name, f"{value!r}", f"give a whole number {span}")
