"""`strata embed`: a pool through an encoder into an embedding store."""

import shutil
from typing import Any

from strata.experiments.console.app import app
from strata.experiments.planning.plan import Pools, plan_embed
from strata.experiments.session import open_runner, open_store
from strata.experiments.settings.places import check_runs, new_folder
from strata.experiments.stage import unique


@app("embed")
def main(config: dict[str, Any]) -> None:
    """Embed; with ``out`` the store is copied there, else it stays in the runs folder."""
    out = None if config["out"] is None else new_folder(config["out"], "out")
    check_runs(config)
    stage = plan_embed(config, config, Pools())
    store = open_store(config)
    open_runner(config, store, "embed").run(unique([stage]))
    if out is not None:
        shutil.copytree(store.path(stage), out)
    print(f"embeddings  {out or store.path(stage)}")
