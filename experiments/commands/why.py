"""`strata why`: the chain of stages, configs and commits behind a result."""

import json

import hydra
from omegaconf import DictConfig

from strata.experiments.session import open_store, plain


@hydra.main(version_base="1.3", config_path="pkg://strata.configs", config_name="why")
def main(composed: DictConfig) -> None:
    """Print a tree: the stage, then its inputs, each with its config and how it was run."""
    config = plain(composed)
    store = open_store(config)
    for depth, folder, manifest in store.lineage(store.find(str(config["key"]))):
        indent = "    " * depth
        run = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {}
        print(f"{indent}{folder.parent.name} {folder.name}  {run.get('label', '')}")
        print(f"{indent}  config  {json.dumps(manifest['config'], sort_keys=True)}")
        if run:
            print(f"{indent}  run     {run['started']}, {run['seconds']} s, commit {run['commit']}: {run['command']}")
