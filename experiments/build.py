"""From config to objects: Hydra targets and typed dataclasses, with one-line errors that name the field."""

from collections.abc import Mapping
from typing import Any, TypeVar

import hydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from strata.curation.errors import ConfigError, StrataError

T = TypeVar("T")


def build(config: Mapping[str, Any], field: str) -> Any:
    """Instantiate a ``_target_`` config. ``field`` is the config path to blame.

    Raises:
        StrataError: from the object's own checks; anything else that goes wrong becomes a ConfigError.
    """
    try:
        return hydra.utils.instantiate(config, _convert_="all")
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, StrataError):
                raise cause from None
            cause = cause.__cause__
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(field, f"cannot be created ({reason})", "correct its settings") from error


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
    return OmegaConf.to_object(merged)  # type: ignore[return-value]
