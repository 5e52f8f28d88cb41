"""`strata rerun KEY`: give the command behind a stage, a W&B run or an experiment's folder once more."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.experiments.console.app import app
from strata.experiments.runner import say
from strata.experiments.session import open_store

COMMANDS = ("run", "curate", "embed", "eval")  # those that make stages


@app("rerun")
def main(config: dict[str, Any]) -> None:
    """Find the recorded command, print it, and unless ``dry=true`` run it.

    With the store as it is everything that is finished is kept; ``fresh=FOLDER`` does it all again in another one, where
    equal code on an equal machine gives equal keys and numbers.
    """
    words = recorded(config)
    if config["fresh"] is not None:
        words += [f"paths.runs={config['fresh']}"]
    say(shlex.join(["strata", *words]))
    if config["dry"]:
        return
    code = subprocess.run([sys.executable, "-m", "strata.experiments.cli", *words]).returncode
    if code:
        raise DataError(f"the command ended with exit code {code}; see above")


def recorded(config: dict[str, Any]) -> list[str]:
    """The words of the command, without ``strata``.

    Raises:
        ConfigError: no such stage or folder, or what made it is not known. DataError: see ``Store.find``.
    """
    asked = config["key"]
    if not isinstance(asked, str):
        raise ConfigError(
            "key", f"{asked!r} is no key", "give a stage's key, a W&B run's id, or an experiment's folder"
        )
    place = Path(asked) if Path(asked).is_dir() else open_store(config).find(asked)
    file = place / "run.json"
    if not file.is_file():
        raise ConfigError(
            "key", f"{place} does not say how it was made", "give a finished stage or an experiment's folder"
        )
    words = shlex.split(json.loads(file.read_text())["command"])
    if words[:1] != ["strata"] or words[1:2] == [] or words[1] not in (*COMMANDS, "table"):
        raise ConfigError("key", f"{place} was made by {shlex.join(words)!r}, not by strata run", "run that again")
    return ["run" if words[1] == "table" else words[1], *words[2:]]
