"""From config to objects: Hydra targets and typed dataclasses, with one-line errors that name the field."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import hydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from strata.curation.errors import ConfigError, DataError, StrataError
from strata.experiments.settings.signature import check_targets

T = TypeVar("T")
_ROOTS = (
    "pool",
    "encoder",
    "sampler",
    "benchmark",
    "protocol",
    "hierarchy",
    "ssl",
    "codebook",
    "measure",
)  # how objects call themselves


def build(config: Mapping[str, Any], field: str) -> Any:
    """Instantiate a ``_target_`` config. ``field`` is the config path to blame.

    Raises:
        StrataError: from the object's own checks; anything else that goes wrong becomes a ConfigError.
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ConfigError(field, "it has no _target_, so nothing can be created", f"choose a file for {field}")
    config = {name: value for name, value in config.items() if name != "declared"}  # see experiments/declared.py
    check_targets(config, field)
    try:
        return hydra.utils.instantiate(config, _convert_="all")
    except Exception as error:
        inner = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)  # the node inside config that refused
        place = f"{field}.{inner[1]}" if inner else field
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, StrataError):
                raise placed(cause, place) from None
            cause = cause.__cause__
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(place, f"cannot be created ({reason})", "correct its settings") from error


def placed(error: StrataError, field: str) -> StrataError:
    """The error with the name that an object gives itself (``protocol.k``) replaced by where its config is."""
    if isinstance(error, ConfigError):
        root, _, rest = error.field.partition(".")
        if root in _ROOTS:
            return ConfigError(f"{field}.{rest}" if rest else field, error.problem, error.fix)
    elif type(error) is DataError:
        return DataError(re.sub(rf"^({'|'.join(_ROOTS)})(?=[.:])", field, str(error)))
    return error


def typed(cls: type[T], config: Mapping[str, Any], field: str) -> T:
    """A dataclass from a config, with its types checked.

    Raises:
        ConfigError: an unknown key, a wrong type, or the dataclass's own checks.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), dict(config))
    except OmegaConfBaseException as error:
        name = getattr(error, "full_key", None) or ""
        problem = (error.msg or str(error)).splitlines()[0]
        raise ConfigError(f"{field}.{name}" if name else field, problem, "correct the value or the name") from error
    try:
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except StrataError as error:
        raise placed(error, field) from None
