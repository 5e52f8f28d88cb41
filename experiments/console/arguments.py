"""The arguments of a command, put into the order that Hydra reads: flags first, then overrides."""

import itertools

from strata.curation.errors import ConfigError

_ALONE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
          "--shell-completion", "-sc")  # fmt: skip
_VALUED = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
           "--experimental-rerun")  # fmt: skip
_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
POSITIONAL = {"why": ("key",), "diff": ("a", "b"), "rerun": ("key",)}  # settings that may be given by place
_EXPERIMENTS = ("run", "plan", "table")
_LONG = {"-c": "--cfg", "-i": "--info", "-h": "--help", "-cd": "--config-dir", "-m": "--multirun"}


def ordered(command: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides). Hydra drops or refuses overrides on both sides of a flag.

    Raises:
        ConfigError: a flag that is not one, or its value; a word that is no setting.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
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
    return flags, _named(command, overrides)


def values_of(flags: list[str], name: str) -> list[str]:
    """The values that a flag was given."""
    return [value for flag, value in itertools.pairwise(flags) if flag == name]


def _named(command: str, overrides: list[str]) -> list[str]:
    """``strata why 3f2a`` as ``key='3f2a'``, quoted: Hydra would read some keys as numbers, and paths not at all."""
    names = list(POSITIONAL.get(command, ()))
    found = []
    for word in overrides:
        name, given, value = word.partition("=")
        if names and not given and not word.startswith(("+", "~")):
            name, given, value = names.pop(0), "=", word
        elif not given and not word.startswith("~"):
            example = f"experiment={word}" if command in _EXPERIMENTS else "seed=1"
            raise ConfigError(word, "is no setting", f"write NAME=VALUE without spaces, e.g. {example}")
        if given and name in POSITIONAL.get(command, ()) and not value.startswith(("'", '"')):
            value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        found.append(f"{name}{given}{value}")
    return found
