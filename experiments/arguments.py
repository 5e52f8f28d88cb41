"""The arguments of a command, put into the order that Hydra reads: flags first, then overrides."""

import itertools
import re

from strata.curation.errors import ConfigError

_ALONE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
          "--shell-completion", "-sc")  # fmt: skip
_VALUED = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
           "--experimental-rerun")  # fmt: skip
_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_LONG = {"-c": "--cfg", "-i": "--info", "-h": "--help", "-cd": "--config-dir", "-m": "--multirun"}


def ordered(command: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides). Hydra drops or refuses overrides on both sides of a flag.

    Raises:
        ConfigError: a flag that is not one, or its value.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(_as_text(word) if command == "why" else word)
            continue
        name, given, value = word.partition("=")
        name = _LONG.get(name, name)
        if name == "--info":
            value = value or (rest.pop(0) if rest and rest[0] in _CHOICES[name] else "all")
        elif name in _VALUED and not given:
            if not rest or rest[0].startswith("-"):
                raise ConfigError(name, "not given a value", f"write {name} VALUE")
            value = rest.pop(0)
        elif name not in _VALUED and (name not in _ALONE or given):
            fix = f"use one of {', '.join(flag for flag in (*_ALONE, *_VALUED) if flag.startswith('--'))}"
            raise ConfigError(name, "no such flag", fix)
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ConfigError(name, f"{value!r} is unknown", f"use one of {', '.join(_CHOICES[name])}")
        flags += [name, value] if value else [name]
    return flags, overrides


def values_of(flags: list[str], name: str) -> list[str]:
    """The values that a flag was given."""
    return [value for flag, value in itertools.pairwise(flags) if flag == name]


def _as_text(override: str) -> str:
    """``key=1e5`` quoted: Hydra would read some keys as numbers."""
    return re.sub(r"^key=([0-9A-Za-z_.-]+)$", r"key='\1'", override)
