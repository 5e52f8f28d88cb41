"""`strata curate`: pool -> embeddings -> clusters -> subset. Your own data in, no training."""

import shutil
from pathlib import Path

import hydra
from omegaconf import DictConfig

from strata.curation.errors import ConfigError
from strata.experiments.plan import ARM_SETTINGS, Pools, plan_sample
from strata.experiments.session import open_runner, open_store, plain
from strata.experiments.stage import unique


@hydra.main(version_base="1.3", config_path="pkg://strata.configs", config_name="curate")
def main(composed: DictConfig) -> None:
    """Curate one pool and copy the subset to ``out``."""
    config = plain(composed)
    out = Path(config["out"])
    if out.exists():
        raise ConfigError("out", f"{out} exists already", "name a new folder")
    settings = {name: config[name] for name in ARM_SETTINGS if name in config}
    stage = plan_sample("curate", settings, config["seed"], config, Pools())
    store = open_store(config)
    open_runner(config, store, "curate").run(unique([stage]))
    shutil.copytree(store.path(stage), out)
    print((out / "balance.json").read_text() if (out / "balance.json").is_file() else "the pool has no labels")
    print(f"subset  {out / 'subset.parquet'}\nrows    {out / 'indices.npy'}")
