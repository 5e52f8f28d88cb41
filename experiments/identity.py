"""What a stage's key says of a setting: its full value with defaults, and the content of folders, not where they lie."""

import hashlib
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from strata.curation.hierarchical_kmeans import HierarchicalKMeans
from strata.experiments.stage import canonical_json
from strata.ssl.image.config import HOW_IT_RUNS

MODEL_FILES = ("config.json", "preprocessor_config.json", "*.safetensors")
# The seed is keyed by itself.
UNKEYED_CLUSTERING = ("device", "random_state", "verbose", "memory", "checkpoint_dir", "checkpoint_seconds")
UNKEYED_SSL = HOW_IT_RUNS
_ADDED_SSL = {
    "flip_vertical": 0.0,
    "quarter_turns": 0.0,
    "by_band": False,
}  # were no settings once: keys stay as they were


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ``_target_`` config with the defaults of its class written out: leaving a default out is the same stage.

    A value that is a local folder of a model becomes the digest of its files.
    """
    given = {name: value for name, value in config.items() if name != "_target_"}
    bound = inspect.signature(get_class(config["_target_"])).bind(**given)
    bound.apply_defaults()
    full = {name: _content(value) for name, value in bound.arguments.items()}
    return plain({"_target_": config["_target_"], **full})


def clustering_identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``HierarchicalKMeans`` that its result depends on."""
    full = leave_out(HierarchicalKMeans(**settings).get_params(), UNKEYED_CLUSTERING)
    if full["shard_centroids"] == "auto":  # says nothing, and was no setting once: keys stay as they were
        del full["shard_centroids"]
    return plain(full)


def ssl_identity(config: Any) -> dict[str, Any]:
    """The settings of a trainer (a dataclass) that its result depends on."""
    settings = leave_out(asdict(config), UNKEYED_SSL)
    settings = {name: value for name, value in settings.items() if _ADDED_SSL.get(name, ...) != value}
    if settings["init_from"]:
        settings["init_from"] = _content(settings["init_from"])
    return plain(settings)


def folder_digest(folder: str | Path) -> str:
    """SHA-256 over the config and weights of a model folder, wherever it lies and whatever lies beside them.

    An empty string if there are none of these files.
    """
    files = sorted(file for pattern in MODEL_FILES for file in Path(folder).glob(pattern))
    return _digest(tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)) if files else ""


def _file_digest(file: Path) -> str:
    if file.suffix != ".safetensors" or not file.is_file():
        return ""
    return _digest(((str(file), file.stat().st_mtime_ns, file.stat().st_size),))


@cache
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, size in files:
        digest.update(f"{Path(name).name} {size}\n".encode())
        with open(name, "rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


def _content(value: Any) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return identity(value)
    if not isinstance(value, str | Path):
        return value
    folder = Path(str(value).removeprefix("local-dir:")).expanduser()
    digest = folder_digest(folder) if folder.is_dir() else _file_digest(folder)
    return f"sha256:{digest}" if digest else value


def leave_out(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The settings but those of ``names``."""
    return {name: value for name, value in settings.items() if name not in names}


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: tuples are lists."""
    result: dict[str, Any] = json.loads(canonical_json(settings))
    return result
