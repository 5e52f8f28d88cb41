"""What ``online.*`` of an experiment gives its trainer: scores of the backbone every so many steps."""

from collections.abc import Callable, Mapping
from typing import Any

from strata.curation.errors import ConfigError
from strata.eval.online import OnlineProbe
from strata.experiments.planning.plan_eval import fitting
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import whole

LOG_EVERY = 20  # steps between two lines of a trainer's log, which the values go into


def online_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the runtime of a ``pretrain`` stage says of it; empty if it is off. It changes no result, so it is in no key.

    Raises:
        ConfigError: it names what is no benchmark or protocol of the experiment, or a benchmark that none of them scores.
    """
    online = config.get("online") or {"every": 0}
    whole("online.every", online["every"], 0)
    if not online["every"]:
        return {}
    if online["every"] % LOG_EVERY:
        raise ConfigError(
            "online.every", f"{online['every']} steps", f"use a multiple of {LOG_EVERY}, or 0 to leave it"
        )
    chosen: dict[str, dict[str, Any]] = {}  # benchmarks and protocols by name
    for group in ("benchmarks", "protocols"):
        names = online.get(group) or []
        for name in names if isinstance(names, list) else [names]:
            if name not in config[group]:
                known = ", ".join(config[group]) or "none"
                raise ConfigError(f"online.{group}", f"{name!r} is none of the experiment's", f"use some of {known}")
            chosen.setdefault(group, {})[str(name)] = config[group][name]
        if not chosen.get(group):
            raise ConfigError(f"online.{group}", "there are none", f"name some of {', '.join(config[group])}")
    for name, benchmark in chosen["benchmarks"].items():
        fitting(chosen["protocols"], benchmark, name)
    return {"every": online["every"], **chosen}


def online_probe(settings: Mapping[str, Any], recipe: Any) -> Callable[[Any], dict[str, float]] | None:
    """The probe for a trainer, or None.

    Args:
        settings: from ``online_settings``.
        recipe: of the trainer; says how images come to the network.
    """
    if not settings:
        return None
    return OnlineProbe(
        {name: build(value, f"benchmarks.{name}") for name, value in settings["benchmarks"].items()},
        {name: build(value, f"protocols.{name}") for name, value in settings["protocols"].items()},
        size=recipe.global_size,
        mean=recipe.mean,
        std=recipe.std,
    )
