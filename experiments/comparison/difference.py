"""What differs between two results: settings, code, machine and numbers, up the chain of their stages."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.experiments.comparison.statistics import estimate
from strata.experiments.store import Store

_RUN = ("commit", "machine", "threads", "command")  # of run.json: what may explain a difference of equal settings


@dataclass(frozen=True)
class Difference:
    """One line: where, and the value on both sides (None: not there)."""

    place: str
    first: Any
    second: Any


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested settings by dotted path; lists are leaves."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def settings_that_differ(first: Any, second: Any) -> list[Difference]:
    """The leaves that are not equal, by path."""
    a, b = flatten(first), flatten(second)
    return [Difference(path, a.get(path), b.get(path)) for path in sorted(a | b) if a.get(path) != b.get(path)]


def chain_differences(
    store: Store, first: Path, second: Path, depth: int = 0
) -> Iterator[tuple[int, str, list[Difference]]]:
    """Compare two stages and then their inputs, role by role, down to the first that are equal.

    Yields:
        (depth, title, differences); an input that both share is one line without differences.
    """
    a, b = read_manifest(first), read_manifest(second)
    if first.name == second.name:
        yield depth, f"{first.parent.name} {first.name}: the same", []
        return
    found = settings_that_differ(a["config"], b["config"]) + _runs_that_differ(first, second)
    if first.parent.name != second.parent.name:
        found.insert(0, Difference("kind of stage", first.parent.name, second.parent.name))
    yield depth, f"{first.parent.name} {first.name} | {second.name}", found
    for role in sorted(a["inputs"].keys() | b["inputs"].keys()):
        keys = [manifest["inputs"].get(role) for manifest in (a, b)]
        if None in keys or not all(store.has(key) for key in keys):
            yield depth + 1, f"input {role}: {keys[0]} | {keys[1]}" + ("" if None in keys else ", not here"), []
            continue
        yield from chain_differences(store, store.find(keys[0]), store.find(keys[1]), depth + 1)


def _runs_that_differ(first: Path, second: Path) -> list[Difference]:
    runs = [
        json.loads((path / "run.json").read_text()) if (path / "run.json").is_file() else {} for path in (first, second)
    ]
    a, b = ({f"run: {name}": run.get(name) for name in _RUN} for run in runs)
    return [Difference(name, a[name], b[name]) for name in a if a[name] != b[name]]


def report_settings(folder: Path) -> dict[str, Any]:
    """The settings of an experiment's folder (``config.yaml``).

    Raises:
        ConfigError: it is not such a folder.
    """
    file = folder / "config.yaml"
    if not file.is_file() or not (folder / "values.csv").is_file():
        fix = "give a folder that `strata run` or `strata table` wrote, or a stage's key"
        raise ConfigError("a, b", f"{folder} holds no config.yaml and values.csv", fix)
    settings: dict[str, Any] = yaml.safe_load(file.read_text())
    return settings


def numbers_that_differ(first: Path, second: Path) -> list[Difference]:
    """Means over seeds by arm, benchmark and metric that are not equal in two experiments' folders."""
    a, b = _means(first), _means(second)
    return [
        Difference(" ".join(key), a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]


def _means(folder: Path) -> dict[tuple[str, str, str], str]:
    values: dict[tuple[str, str, str], list[float]] = {}
    with open(folder / "values.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["value"]:
                values.setdefault((row["arm"], row["benchmark"], row["metric"]), []).append(float(row["value"]))
    return {key: f"{estimate(found).mean:.6g} (n={len(found)})" for key, found in values.items()}
