"""``strata eval benchmark=[a,b] protocol=c`` as Hydra reads it: plain names become entries of the config groups.

A name of ``benchmark=`` is a file of the group ``benchmark``, or of ``suite``: a list of benchmarks, with the protocols that go
with them (``only``: on which of them), and whose mean is a number of its own (``mean``: true, or names).
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from strata.curation.errors import ConfigError
from strata.experiments.console.usage import choices


def expand(overrides: list[str], config_dirs: list[str]) -> list[str]:
    """The overrides with ``benchmark=`` and ``protocol=`` written out.

    Raises:
        ConfigError: a name that is no benchmark, suite or protocol.
    """
    kept: list[str] = []
    benchmarks: list[str] = []
    protocols: list[str] | None = None
    suites: dict[str, dict[str, Any]] = {}
    for text in overrides:
        override = _parse(text)
        if (
            override is None
            or override.key_or_group not in ("benchmark", "protocol")
            or override.is_delete()
            or override.package is not None
        ):
            kept.append(text)
        elif override.key_or_group == "protocol":
            protocols = [*(protocols or []), *_known("protocol", _names(override), choices("protocol", config_dirs))]
        else:
            found, suite = _benchmarks(_names(override), config_dirs)
            benchmarks += found
            suites |= suite
    given = protocols
    if protocols is None and suites:
        named = [name for suite in suites.values() for name in suite.get("protocols", [])]
        protocols = _known("protocol", named, choices("protocol", config_dirs)) or None
    kept += [f"+benchmark@benchmarks.{name}={name}" for name in dict.fromkeys(benchmarks)]
    if protocols is not None:
        defaults = _default_protocols()
        kept += [f"~protocol@protocols.{name}" for name in defaults if name not in protocols]
        kept += [f"+protocol@protocols.{name}={name}" for name in dict.fromkeys(protocols) if name not in defaults]
    for name, suite in suites.items():
        mean = suite.get("mean")
        if mean:
            kept.append(f"+means.{name}=[{','.join(suite['benchmarks'] if mean is True else mean)}]")
        only = suite.get("only", {}) if given is None else {}
        kept += [f"+only.{protocol}=[{','.join(names)}]" for protocol, names in only.items()]
    return kept


def _benchmarks(names: list[str], config_dirs: list[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    single, groups = choices("benchmark", config_dirs), choices("suite", config_dirs)
    found: list[str] = []
    suites: dict[str, dict[str, Any]] = {}
    for name in _known("benchmark", names, [*single, *groups]):
        if name in single:
            found.append(name)
            continue
        suites[name] = _suite(name, config_dirs)
        found += _known(f"suite {name}", suites[name]["benchmarks"], single)
    return found, suites


def _suite(name: str, config_dirs: list[str]) -> dict[str, Any]:
    own = [Path(folder) / "suite" / f"{name}.yaml" for folder in config_dirs]
    path = next((file for file in own if file.is_file()), None)
    text = path.read_text() if path else files("strata.configs").joinpath("suite", f"{name}.yaml").read_text()
    read = yaml.safe_load(text)
    if not isinstance(read, dict) or not isinstance(read.get("benchmarks"), list) or not read["benchmarks"]:
        raise ConfigError(f"suite {name}", "it lists no benchmarks", "write benchmarks: [NAME, ...] in it")
    return read


def _default_protocols() -> list[str]:
    """Names that ``configs/eval.yaml`` gives its protocols."""
    config = yaml.safe_load(files("strata.configs").joinpath("eval.yaml").read_text())
    entries = [key for entry in config["defaults"] if isinstance(entry, dict) for key in entry]
    return [key.partition("@protocols.")[2] for key in entries if key.startswith("protocol@protocols.")]


def _known(field: str, names: list[str], known: list[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise ConfigError(field, f"there is no {name!r}", f"use some of {', '.join(known)}")
    return names


def _parse(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None  # Hydra says why


def _names(override: Override) -> list[str]:
    """The names of ``x=a``, ``x=[a,b]`` and ``x=a,b``."""
    if override.is_sweep_override():
        listed: list[Any] = list(override.sweep_iterator())
    else:
        value = override.value()
        listed = value if isinstance(value, list) else [value]
    names = [str(name) for name in listed if isinstance(name, str | int)]
    if not names or len(names) != len(listed):
        field = override.key_or_group
        raise ConfigError(field, "it is no list of names", f"write {field}=a or {field}=[a,b]")
    return names
