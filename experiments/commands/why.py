"""`strata why`: the chain of stages, configs and commits behind a result."""

import json
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.console.app import app
from strata.experiments.session import open_store


@app("why")
def main(config: dict[str, Any]) -> None:
    """Print a tree: the stage, then its inputs, each with its config and how it was run."""
    if not isinstance(config["key"], str):
        raise ConfigError("key", f"{config['key']!r} is no key", "give the first digits of one")
    store = open_store(config)
    for depth, folder, manifest in store.lineage(store.find(config["key"])):
        indent = "    " * depth
        run = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {}
        print(f"{indent}{folder.parent.name} {folder.name}  {run.get('label', '')}")
        print(f"{indent}  config  {json.dumps(manifest['config'], sort_keys=True)}")
        if run:
            when = run["started"] or "killed before its time was recorded"
            took = "" if run["seconds"] is None else f"{run['seconds']} s, "
            print(f"{indent}  run     {when}, {took}commit {run['commit']}: {run['command']}")
