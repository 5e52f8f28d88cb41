"""`strata diff A B`: what differs between two stages, or between two experiments' folders."""

from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.difference import (
    Difference,
    chain_differences,
    numbers_that_differ,
    report_settings,
    settings_that_differ,
)
from strata.experiments.console.app import app
from strata.experiments.session import open_store


@app("diff")
def main(config: dict[str, Any]) -> None:
    """Print settings, code and numbers that differ; nothing else."""
    for field in ("a", "b"):
        if not isinstance(config[field], str):
            raise ConfigError(field, f"{config[field]!r}", "give a stage's key, or an experiment's folder")
    folders = [Path(config[field]) for field in ("a", "b")]
    if any(folder.is_dir() for folder in folders):
        settings = [report_settings(folder) for folder in folders]
        _say(0, f"{folders[0]} | {folders[1]}", settings_that_differ(*settings))
        _say(0, "means over seeds", numbers_that_differ(*folders))
        return
    store = open_store(config)
    for depth, title, differences in chain_differences(store, store.find(config["a"]), store.find(config["b"])):
        _say(depth, title, differences)


def _say(depth: int, title: str, differences: list[Difference]) -> None:
    indent = "    " * depth
    print(f"{indent}{title}")
    for line in differences:
        print(f"{indent}    {line.place:<40} {line.first} | {line.second}")
    if not differences and "the same" not in title and "input" not in title:
        print(f"{indent}    nothing differs")
