"""How a curation was made: what the manifests and run records of its folders say."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.hierarchy import Allocation, Hierarchy
from strata.curation.subset import Selection

_RECORDED = ("command", "commit", "started", "seconds", "machine")


def stage_record(folder: str | Path) -> dict[str, Any]:
    """Kind, key, inputs, config and versions of an artifact, with the command and commit of its ``run.json`` if there."""
    manifest = read_manifest(folder)
    file = Path(folder) / "run.json"
    run = json.loads(file.read_text()) if file.is_file() else {}
    record = {name: manifest[name] for name in ("kind", "key", "inputs", "config", "versions") if manifest.get(name)}
    return record | {name: run[name] for name in _RECORDED if name in run}


def balanced_quotas(hierarchy: Hierarchy, selection: Selection, config: Mapping[str, Any] | None) -> Sequence[Any]:
    """Quotas of the selection: its own if ``config`` (of the sample stage) is that of a hierarchical sampler.

    Of another sampler they are what a hierarchical one would give each cluster for as many rows: a yardstick.
    """
    sampler = (config or {}).get("sampler") or {}
    allocation: Allocation = "hierarchical"
    repeats = int(selection.repeats.max(initial=1))
    seed = 0
    if str(sampler.get("_target_", "")).endswith(".HierarchicalRows"):
        allocation = sampler.get("allocation", allocation)
        repeats = int(sampler.get("max_repeats", 1))
        seed = int((config or {}).get("seed") or 0)
    return hierarchy.quotas(len(selection), allocation, repeats, seed)
