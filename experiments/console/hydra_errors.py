"""Hydra's and OmegaConf's errors as one line that names the field and the fix."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from strata.curation.errors import ConfigError
from strata.experiments.console.usage import choices


def explain(error: Exception) -> str:
    """One line for a config that does not compose: an unknown group choice, a typo, a wrong type."""
    text = str(error)
    missing = re.search(r"(?:Could not find|In '[^']*': Could not find) '([^']+)'(.*)", text, re.DOTALL)
    if missing:
        options = re.findall(r"\n\t(\S+)", missing.group(2).split("Config search path")[0])
        group, _, choice = missing.group(1).rpartition("/")
        if group != "scale" and choice in choices("scale", []):
            return f"scale: this experiment has no {choice!r}; use one of: {', '.join(options) or 'none found'}"
        return f"{group or 'config'}: there is no {choice!r}; use one of: {', '.join(options) or 'none found'}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        field = override.group(1)
        group = re.search(r"No match in the defaults list", text)
        if group:
            return f"{field}: no such config group; see the groups that --help lists"
        parent = field.rpartition(".")[0]
        place = f" in {parent}" if parent else ""
        return f"{field}: no such setting{place}; see --cfg job (+{field}=... sets a default that the file leaves out)"
    first = " ".join(line.strip() for line in text.splitlines() if line.strip())
    field = getattr(error, "full_key", None)
    return f"{field}: {first}" if field else first


def check_group_choices(overrides: list[str], config_dirs: list[str]) -> None:
    """Raise a ConfigError where a config group is set to what is no file name: ``pool=null``, ``hierarchy=3``."""
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            continue  # Hydra says why
        options = choices(override.key_or_group, config_dirs)
        named = isinstance(override.value(), str | list) or override.is_sweep_override()
        if options and not named and not override.is_delete():
            problem = f"{text.partition('=')[2]} is no choice"
            raise ConfigError(override.key_or_group, problem, f"use one of {', '.join(options)}")
