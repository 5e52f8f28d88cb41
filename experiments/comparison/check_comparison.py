"""Checks of what is compared: columns, the paper's numbers, claims, and which arm is compared with which."""

from collections.abc import Mapping
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.claims import claims_of
from strata.experiments.comparison.columns import columns_of, paper_of


def check_comparison(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError for the first of ``columns``, ``printed``, ``claims`` and ``table.compare`` that cannot be."""
    columns_of(config)
    paper_of(config)
    claims_of(config)
    arms = config["arms"]
    for arm, control in (config["table"].get("compare") or {}).items():
        if arm not in arms or control not in arms:
            raise ConfigError("table.compare", f"{arm}: {control} names no arm", f"use {', '.join(arms)}")
