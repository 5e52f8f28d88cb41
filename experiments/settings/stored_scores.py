"""Scores folders that were made before, by what a user calls them."""

import json
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.experiments.stage import canonical_json
from strata.experiments.store import Store


def scores_folder(name: Any, store: Store, field: str) -> Path:
    """A scores folder by its path or its stage's key.

    Raises:
        ConfigError: of ``field``: there is none. DataError: the key names several stages.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(field, f"{name!r}", "give a scores folder or its stage's key")
    for folder in (Path(name), *_by_key(name, store)):
        if (folder / "manifest.json").is_file():
            read_manifest(folder, "scores")
            return folder
    raise ConfigError(field, f"{name!r} is no scores folder, nor the key of one", "see the keys in a model card")


def scores_of(name: Any, store: Store, field: str) -> dict[str, Path]:
    """Scores folders by what was measured: the one of a path or key, or all that the store has of a backbone.

    Args:
        name: a scores folder, the key of its stage, or a backbone: its name as it was evaluated, or its key.
        store: where stages lie.
        field: to blame.

    Raises:
        ConfigError: nothing by that name.
    """
    try:
        folder = scores_folder(name, store, field)
    except ConfigError:
        found = {}
        for path in sorted((store.root / "evaluate").glob("*/manifest.json")):
            manifest = json.loads(path.read_text())
            backbone = manifest.get("backbone") or {}
            if str(name) in (backbone.get("name"), backbone.get("key")):
                found[_measured(manifest)] = path.parent
        if not found:
            problem = f"{name!r} is no scores folder, no key of one, and no backbone with scores in {store.root}"
            raise ConfigError(field, problem, "run strata eval on it first") from None
        return found
    return {_measured(read_manifest(folder, "scores")): folder}


def pairs(a: dict[str, Path], b: dict[str, Path]) -> list[tuple[Path, Path]]:
    """What both have measured alike.

    Raises:
        DataError: nothing.
    """
    if len(a) == len(b) == 1:  # the user named both: what does not fit is refused with its reason
        return [(next(iter(a.values())), next(iter(b.values())))]
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise DataError("the two have no protocol and benchmark in common; evaluate both alike")
    return [(a[what], b[what]) for what in shared]


def _measured(manifest: dict[str, Any]) -> str:
    """Benchmark, protocol with its options, and the test images."""
    splits = {name: about.get("fingerprint") for name, about in manifest["splits"].items()}
    protocol = manifest["protocol"]
    return canonical_json([manifest["benchmark"], protocol["id"], protocol["version"], protocol["options"], splits])


def _by_key(name: str, store: Store) -> list[Path]:
    if "/" in name or len(name) < 4:
        return []
    found = list((store.root / "evaluate").glob(f"{name}*"))
    found = [path for path in found if (path / "manifest.json").is_file()]
    if len(found) > 1:
        raise DataError(f"key {name!r} names {len(found)} scores folders in {store.root}; give more digits")
    return found
