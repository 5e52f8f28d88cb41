"""`strata curate data=PATH`: the pool that reads a path, the encoder for what it holds, and the settings' short names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import strata.configs
from strata.curation.errors import ConfigError
from strata.curation.export.formats import check_format
from strata.curation.levels import AUTO
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind, kind_of
from strata.curation.pools.detect import detect
from strata.experiments.planning.plan import Pools

DEFAULT_ENCODER: dict[Kind, str] = {"images": "hog_color", "text": "hashed_text", "vectors": "none"}
_LEVELS = ("n_clusters", "n_splits", "n_resamples", "resample_size", "init")


def complete(config: Mapping[str, Any], pools: Pools) -> dict[str, Any]:
    """The config of ``strata curate`` with everything that may be left out: pool, encoder, levels and size.

    * ``pool``: as given, else found from ``data``.
    * ``encoder``: as given, else ``DEFAULT_ENCODER`` of what the pool holds.
    * ``size``: also named ``target``.
    * ``levels``: "auto" or a list, instead of the settings of ``hierarchy``.

    Raises:
        ConfigError: one of them is missing, given twice, or does not fit the others.
    """
    full = dict(config)
    full["size"] = subset_size(config)
    full["pool"] = _pool(config)
    pool = pools.open(full["pool"], "pool" if config.get("pool") else "data")
    check_format(config.get("copy"), pool)
    if not full.get("encoder"):
        full["encoder"] = _default_encoder(pool)
    full["hierarchy"] = choose_levels(config)
    return full


@contextmanager
def as_named(config: Mapping[str, Any]) -> Iterator[None]:
    """Errors inside name the setting of ``strata curate`` that the user wrote, not what was made of it."""
    names = {"arms.curate": "sampler"}
    if config.get("data") is not None:
        names["data.path"] = "data"
    if config.get("levels") is not None:
        names["hierarchy.n_clusters"] = "levels"
    try:
        yield
    except ConfigError as error:
        if error.field not in names:
            raise
        raise ConfigError(names[error.field], error.problem, error.fix) from error


def describe_choice(config: Mapping[str, Any], pool: Pool) -> str:
    """One line: what was found, and what reads it."""
    reader, encoder = (config[name]["_target_"].rsplit(".", 1)[-1] for name in ("pool", "encoder"))
    return f"{pool.name}: {len(pool):,} {kind_of(pool)} ({reader}), encoder {encoder}"


def _default_encoder(pool: Pool) -> dict[str, Any]:
    """The encoder of the kind; of a small pool at most a quarter as many components as it has items."""
    settings = load_group("encoder", DEFAULT_ENCODER[kind_of(pool)])
    if "n_components" in settings:
        settings["n_components"] = max(1, min(settings["n_components"], len(pool) // 4))
    return settings


def load_group(group: str, name: str) -> dict[str, Any]:
    """The settings of ``configs/<group>/<name>.yaml``, a file without defaults of its own."""
    loaded = OmegaConf.to_container(OmegaConf.load(Path(str(strata.configs.__file__)).parent / group / f"{name}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def subset_size(config: Mapping[str, Any]) -> Any:
    """``size``, also named ``target``. Raises a ConfigError if neither is given, or two that differ."""
    given = {name: config[name] for name in ("size", "target") if config.get(name) is not None}
    if not given:
        raise ConfigError("size", "not given", "add size=ROWS")
    if len(set(map(str, given.values()))) > 1:
        raise ConfigError("target", f"{given['target']}, but size is {given['size']}", "give one of them")
    return next(iter(given.values()))


def _pool(config: Mapping[str, Any]) -> dict[str, Any]:
    pool, data = config.get("pool"), config.get("data")
    if pool and data is not None:
        raise ConfigError("data", f"{data!r}, but pool is given too", "give data=PATH, or pool=NAME pool.path=PATH")
    if pool:
        return dict(pool)
    if data is None:
        raise ConfigError("data", "not given", "add data=PATH, or pool=NAME pool.path=PATH")
    return detect(str(data))


def choose_levels(config: Mapping[str, Any]) -> dict[str, Any]:
    """``hierarchy`` with ``levels`` put in: everything that depends on the number of levels is then chosen anew."""
    settings, levels = dict(config["hierarchy"]), config.get("levels")
    if levels is None:
        return settings
    if levels != AUTO and not (isinstance(levels, list) and levels):
        raise ConfigError("levels", f"{levels!r}", "give auto, or the clusters of each level, such as [1000,200,50]")
    return settings | dict.fromkeys(_LEVELS, AUTO) | {"n_clusters": levels}
