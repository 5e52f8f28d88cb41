"""Checks of what is compared: columns, the paper's numbers, claims, and which arm is compared with which."""

from collections.abc import Mapping
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.claims import claims_of
from strata.experiments.comparison.columns import columns_of, paper_of
from strata.experiments.settings.build import build


def check_comparison(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError for the first of ``columns``, ``printed``, ``claims`` and ``table.compare`` that cannot be."""
    _check_columns(config)
    paper_of(config)
    claims_of(config)
    arms = config["arms"]
    for arm, control in (config["table"].get("compare") or {}).items():
        if arm not in arms or control not in arms:
            raise ConfigError("table.compare", f"{arm}: {control} names no arm", f"use {', '.join(arms)}")


def _check_columns(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError for a column of a benchmark, measure or protocol that the experiment has not."""
    columns = columns_of(config)
    if config.get("domain") == "text":
        return  # its groups are held-out pools, tasks and probes
    groups = ["data", *(config.get("benchmarks") or {}), *(config.get("measures") or {})]
    built = [build(told, f"protocols.{name}") for name, told in (config.get("protocols") or {}).items()]
    versions = [f"{protocol.id}-v{protocol.version}" for protocol in built]
    for name, column in columns.items():
        for group, metric in column.parts:
            if group not in groups:
                raise ConfigError(f"columns.{name}", f"there is no benchmark {group!r}", f"use {', '.join(groups)}")
            if group in (config.get("benchmarks") or {}) and metric.split(" ")[0] not in versions:
                problem = f"no protocol gives {metric!r}"
                raise ConfigError(f"columns.{name}", problem, f"begin with one of {', '.join(versions)}")
