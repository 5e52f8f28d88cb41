"""Settings against the signature of what they are for: unknown names, missing ones and wrong types, by field."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from hydra.utils import get_object

from strata.curation.errors import ConfigError

_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
    Path: ((str,), "a path"),
    types.NoneType: ((types.NoneType,), "null"),
}


def check_targets(config: Any, field: str) -> None:
    """Raise a ConfigError for the first setting of a ``_target_`` config, or of one inside it, that its target refuses."""
    if isinstance(config, list):
        for index, item in enumerate(config):
            check_targets(item, f"{field}.{index}")
    if not isinstance(config, Mapping):
        return
    for name, value in config.items():
        check_targets(value, f"{field}.{name}")
    if "_target_" in config:
        try:
            target = get_object(config["_target_"])
        except Exception as error:
            problem = f"{config['_target_']!r} cannot be imported ({' '.join(str(error).split())})"
            raise ConfigError(f"{field}._target_", problem, "give the dotted path of a class") from error
        check_call(target, {name: value for name, value in config.items() if not name.startswith("_")}, field)


def check_call(target: Callable[..., Any], settings: Mapping[str, Any], field: str) -> None:
    """Raise a ConfigError unless ``target(**settings)`` has the right names and types."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [name for name in settings if name not in parameters]
    if unknown:
        said = f"{target.__name__} has no {'setting' if len(unknown) == 1 else 'settings'} {', '.join(unknown)}"
        fix = f"add {' '.join(f'~{field}.{name}' for name in unknown)} to remove what you or the experiment's file set"
        raise ConfigError(f"{field}.{unknown[0]}", said, fix)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in settings:
            raise ConfigError(f"{field}.{name}", "not given", f"add {field}.{name}=VALUE")
    hints = _hints(target)
    for name, value in settings.items():
        if name in hints and not fits(value, hints[name]):
            raise ConfigError(f"{field}.{name}", f"{value!r}", f"give {wanted(hints[name])}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be what a type hint says. What is neither scalar, list nor choice is let through."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return isinstance(value, _SCALARS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if origin is Literal:
        return value in inner
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if _is_list(origin):
        return isinstance(value, list | tuple) and (not inner or all(fits(item, inner[0]) for item in value))
    return True


def wanted(hint: Any) -> str:
    """A type hint in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint][1]
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join(wanted(one) for one in inner)
    if _is_list(origin):
        return f"a list, each {wanted(inner[0])}" if inner else "a list"
    return "a group of settings"


def _is_list(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, typing.Collection) and not issubclass(origin, Mapping)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except NameError:  # an annotation that only a type checker can see
        return {}
