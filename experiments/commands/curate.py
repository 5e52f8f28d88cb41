"""`strata curate`: pool -> embeddings -> clusters -> subset. Your own data in, no training."""

import shutil
from typing import Any

from strata.experiments.app import app
from strata.experiments.checks import whole
from strata.experiments.places import new_folder
from strata.experiments.plan import ARM_SETTINGS, Pools, plan_sample
from strata.experiments.session import open_runner, open_store
from strata.experiments.stage import unique


@app("curate")
def main(config: dict[str, Any]) -> None:
    """Curate one pool and copy the subset to ``out``."""
    out = new_folder(config["out"], "out")
    whole("seed", config["seed"], 0, 2**32 - 1)
    whole("size", config["size"], 1)
    settings = {name: config[name] for name in ARM_SETTINGS if name in config}
    stage = plan_sample("curate", settings, config["seed"], config, Pools())
    store = open_store(config)
    open_runner(config, store, "curate").run(unique([stage]))
    shutil.copytree(store.path(stage), out)
    print((out / "balance.json").read_text() if (out / "balance.json").is_file() else "the pool has no labels")
    print(f"subset  {out / 'subset.parquet'}\nrows    {out / 'indices.npy'}")
