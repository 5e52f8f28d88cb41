"""`strata embed`: a pool through an encoder into an embedding store."""

import shutil
from pathlib import Path

import hydra
from omegaconf import DictConfig

from strata.curation.errors import ConfigError
from strata.experiments.plan import Pools, plan_embed
from strata.experiments.session import open_runner, open_store, plain
from strata.experiments.stage import unique


@hydra.main(version_base="1.3", config_path="pkg://strata.configs", config_name="embed")
def main(composed: DictConfig) -> None:
    """Embed; with ``out`` the store is copied there, else it stays in the runs folder."""
    config = plain(composed)
    out = Path(config["out"]) if config["out"] else None
    if out is not None and out.exists():
        raise ConfigError("out", f"{out} exists already", "name a new folder")
    stage = plan_embed(config, config, Pools())
    store = open_store(config)
    open_runner(config, store, "embed").run(unique([stage]))
    if out is not None:
        shutil.copytree(store.path(stage), out)
    print(f"embeddings  {out or store.path(stage)}")
