"""Folders that pass between rooms: a manifest, written under a temporary name and renamed when whole.

A run that is killed leaves ``NAME.partial``; nothing that looks finished is ever half written. The next run finds
what is in the partial folder and may go on from there.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strata.curation.errors import DataError, StrataError

SCHEMA_VERSION = 1
_RECORDED = ("strata", "torch", "timm", "transformers", "numpy", "pytorch-lightning")


@dataclass
class Draft:
    """An artifact being written: put files under ``path``, and what the manifest should tell into ``meta``."""

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def create_artifact(
    path: str | Path, kind: str, *, key: str = "", inputs: Mapping[str, str] | None = None, config: Any = None
) -> Iterator[Draft]:
    """Write an artifact folder atomically.

    Yields a ``Draft`` whose path is ``<path>.partial``. Files that an interrupted run with the same ``key`` left there
    are kept, so that the writer can resume; those of another key are removed first. On a clean exit the manifest is
    written and the folder renamed to ``path``. On a ``StrataError`` (bad input: trying again cannot help) the partial
    folder is removed; on any other exception it stays.

    Args:
        path: the folder to make. Must not exist yet.
        kind: "pool", "embeddings", "hierarchy", "subset", "backbone", "features" or "scores".
        key: content key of the stage that writes it.
        inputs: role -> content key of each input artifact.
        config: JSON-able resolved config that made it.
    """
    final = Path(path)
    if final.exists():
        raise StrataError(f"{final} exists already; remove it or write to another folder")
    work = final.with_name(final.name + ".partial")
    owner = work / "key.txt"
    if work.exists() and (not owner.exists() or owner.read_text() != key):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    owner.write_text(key)
    draft = Draft(work)
    try:
        yield draft
    except StrataError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "key": key,
        "inputs": dict(inputs or {}),
        "config": config,
        **draft.meta,
        "versions": _versions(),
    }
    write_json(work / "manifest.json", manifest)
    owner.unlink()
    work.replace(final)


def read_manifest(path: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Read and check the manifest of an artifact folder.

    Raises:
        DataError: there is no manifest, it is of another kind than asked for, or of a newer schema.
    """
    file = Path(path) / "manifest.json"
    if not file.is_file():
        raise DataError(
            f"{path} is not a finished artifact: it has no manifest.json; run the stage that makes it again"
        )
    manifest: dict[str, Any] = json.loads(file.read_text())
    if kind is not None and manifest.get("kind") != kind:
        raise DataError(f"{path} holds {manifest.get('kind')!r}, but {kind!r} is needed; give another folder")
    if manifest.get("schema_version", 0) > SCHEMA_VERSION:
        raise DataError(f"{path} was written by a newer strata (schema {manifest['schema_version']}); upgrade strata")
    return manifest


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half a file."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w") as stream:
        json.dump(value, stream, indent=1, sort_keys=True, default=str)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _versions() -> dict[str, str]:
    found = {}
    for name in _RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
