"""`strata curate`: pool -> embeddings -> clusters -> subset. Your own data in, no training."""

from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.atlas import write_atlas
from strata.curation.errors import ConfigError
from strata.curation.export.publish import COPY_FOLDER, publish
from strata.curation.footprints import footprints_of, write_footprints
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of
from strata.curation.pools.inventory import readable
from strata.curation.pools.subset import SubsetPool
from strata.curation.subset import read_subset
from strata.experiments.console.app import app
from strata.experiments.planning.curate_plan import curation_plan
from strata.experiments.planning.own_data import as_named, complete, describe_choice
from strata.experiments.planning.plan import ARM_SETTINGS, Pools, plan_sample
from strata.experiments.session import open_runner, open_store
from strata.experiments.settings.checks import whole
from strata.experiments.settings.places import new_folder
from strata.experiments.stage import Stage, unique
from strata.experiments.store import Store


@app("curate")
def main(config: dict[str, Any]) -> None:
    """Curate one pool and copy the subset, and if wanted its items, to ``out``; or print what it would take."""
    if not isinstance(config["plan"], bool):
        raise ConfigError("plan", f"{config['plan']!r} is neither yes nor no", "use true or false")
    if config["plan"]:
        print(curation_plan(config))
        return
    if config["n"] is not None:
        raise ConfigError("n", f"{config['n']}, and plan is not true", "add plan=true, or give data=PATH instead of n")
    if config["out"] is None:
        raise ConfigError("out", "not given", "add out=FOLDER")
    out, pools = new_folder(config["out"], "out"), Pools()
    whole("seed", config["seed"], 0, 2**32 - 1)
    if not isinstance(config["atlas"], bool):
        raise ConfigError("atlas", f"{config['atlas']!r} is neither yes nor no", "use true or false")
    with as_named(config):
        config = complete(config, pools)
        whole("size", config["size"], 1)
        settings = {name: config[name] for name in ARM_SETTINGS if name in config}
        stage = plan_sample("curate", settings, config["seed"], config, pools)
    everything = pools.open(config["pool"], "pool")
    print(describe_choice(config, everything))
    store = open_store(config)
    open_runner(config, store, "curate").run(unique([stage]))
    pool = readable(everything, store.path(stage.inputs["pool"]))
    left_out = len(everything) - len(pool)
    publish(
        store.path(stage), out, pool, config["copy"], pool.rows if isinstance(pool, SubsetPool) and left_out else None
    )
    if left_out:
        print(f"{left_out:,} unreadable items were left out; rows number the data as they are, with these")
    print((out / "balance.json").read_text() if (out / "balance.json").is_file() else "the pool has no labels")
    print(f"subset  {out / 'subset.parquet'}\nrows    {out / 'indices.npy'}")
    if config["copy"] is not None:
        print(f"copy    {out / COPY_FOLDER}")
    if config["atlas"]:
        print(f"atlas   {draw_atlas(store, stage, pool, out / 'atlas.html')}")


def draw_atlas(store: Store, sample: Stage, pool: Pool, path: Path) -> str:
    """Write the atlas of a subset of ``pool`` (its readable part); says where it is, or why there is none."""
    if "hierarchy" not in sample.inputs:
        return "none: this sampler uses no clusters"
    inventory, clusters = sample.inputs["pool"], sample.inputs["hierarchy"]
    write_atlas(
        path,
        store.path(clusters),
        store.path(sample),
        pool=None if kind_of(pool) == "vectors" else pool,  # a vector is nothing to look at: the page shows ids
        embeddings=store.path(clusters.inputs["embeddings"]),
        records=[store.path(inventory)],
    )
    footprints = footprints_of(pool)
    if footprints is None:
        return str(path)
    kept = np.intersect1d(read_subset(store.path(sample)).rows, footprints["row"].to_numpy())
    write_footprints(path.with_name("map.geojson"), footprints, kept, picture=path.with_name("map.png"))
    return f"{path}\nmap     {path.with_name('map.geojson')}, map.png"
