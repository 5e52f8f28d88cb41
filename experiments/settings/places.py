"""Where a command writes: settings that name a folder, checked before anything is written."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.stage import KINDS


def folder(value: Any, field: str) -> Path:
    """A setting as a path. Raises a ConfigError if it is none."""
    if not isinstance(value, str) or not value:
        fix = f"write {field}=./{value}" if isinstance(value, int | float) else "give a folder"
        raise ConfigError(field, f"{value!r} is no path", fix)
    return Path(value)


def check_writable(path: Path, field: str, fix: str = "name another folder") -> None:
    """Raise a ConfigError unless the folder can be made, or written to if it is there."""
    nearest = path.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ConfigError(field, f"{nearest} cannot be written to (a file, not a folder)", fix)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ConfigError(field, f"{nearest} cannot be written to ({error.strerror})", fix) from error


def new_folder(value: Any, field: str) -> Path:
    """A setting that names a folder to be made. Raises a ConfigError if it is there, or cannot be made."""
    path = folder(value, field)
    if os.path.lexists(path):
        raise ConfigError(field, f"{path} exists already", "name a new folder")
    check_writable(path, field)
    return path


def check_runs(config: Mapping[str, Any]) -> None:
    """Raise a ConfigError unless files can be made in the runs folder and what is in it; makes nothing that stays."""
    runs = folder(config["paths"]["runs"], "paths.runs").absolute()
    store = runs / "store"
    places = (runs, store, *(store / kind for kind in KINDS), store / "locks", runs / str(config.get("name", "")))
    for place in places:
        check_writable(place, "paths.runs", "name another folder, or set STRATA_RUNS")


def as_refusal(error: OSError, config: Mapping[str, Any]) -> ConfigError | None:
    """A failure of the file system under a folder that the settings name: full, read-only or gone."""
    named = {"out": config.get("out"), "paths.runs": config["paths"]["runs"]}
    for field, value in named.items():
        if value and error.filename:
            place, hit = Path(value).absolute(), Path(str(error.filename)).absolute()
            if hit.is_relative_to(place) or place.is_relative_to(hit):
                problem = f"{error.filename}: {error.strerror or error}"
                return ConfigError(field, problem, "name a folder that can be written to, with room")
    return None
