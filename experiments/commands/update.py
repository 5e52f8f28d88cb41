"""`strata update`: more data for a curated subset; the smallest change that restores its balance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, DataError
from strata.curation.export.publish import publish
from strata.curation.pools.detect import detect
from strata.experiments.console.app import app
from strata.experiments.planning.own_data import as_named, subset_size
from strata.experiments.planning.plan import Pools, plan_embed
from strata.experiments.session import open_runner, open_store
from strata.experiments.settings.checks import whole
from strata.experiments.settings.places import folder, new_folder
from strata.experiments.stage import Stage, unique
from strata.experiments.store import Store

_SAMPLER = "strata.curation.samplers.hierarchical.HierarchicalRows"


@app("update")
def main(config: dict[str, Any]) -> None:
    """Embed the new data as the old, put it into the old clusters, and change the subset as little as its quotas ask."""
    if config["out"] is None:
        raise ConfigError("out", "not given", "add out=FOLDER")
    out, pools, store = new_folder(config["out"], "out"), Pools(), open_store(config)
    whole("seed", config["seed"], 0, 2**32 - 1)
    old = _kept_subset(config, store)
    with as_named(config):
        stage = _plan(config, pools, store, old)
    open_runner(config, store, "update").run(unique([stage]))
    inventories = [_inventory(store, store.path(part)) for role, part in stage.inputs.items() if "embeddings" in role]
    publish(store.path(stage), out, pools.open(_new_pool(config), "pool"), source_rows=_source_rows(inventories))
    changes = pq.read_table(out / "changes.parquet")["change"].to_pylist()
    kept = read_manifest(out, "subset")["n"] - changes.count("added")
    print(f"{kept:,} rows kept, {changes.count('dropped'):,} dropped, {changes.count('added'):,} added")
    print(f"subset  {out / 'subset.parquet'}\nrows    {out / 'indices.npy'}\nchanges {out / 'changes.parquet'}")


def _kept_subset(config: dict[str, Any], store: Store) -> Path:
    """The stage of the subset, whose rows are those of the readable items."""
    if config["subset"] is None:
        raise ConfigError("subset", "not given", "add subset=FOLDER, as `strata curate` or `strata update` wrote it")
    try:
        manifest = read_manifest(folder(config["subset"], "subset"), "subset")
        found = store.find(manifest["key"] or "nothing")
    except DataError as error:
        raise ConfigError("subset", str(error), "give a folder of `strata curate`, and its runs folder") from error
    made_by = manifest["config"]["sampler"]["_target_"]
    if made_by != _SAMPLER:
        raise ConfigError("subset", f"drawn by {made_by.rsplit('.', 1)[-1]}", "give one of sampler=hierarchical")
    return found


def _plan(config: dict[str, Any], pools: Pools, store: Store, old: Path) -> Stage:
    """embed -> extend -> update, on the stages behind the old subset."""
    drawn = read_manifest(old)
    tree = store.find(drawn["inputs"]["hierarchy"])
    parts, clustering = _behind(tree, store)
    embedded = read_manifest(parts[0])["config"]
    base, pool = store.kept(parts[0]), _new_pool(config)
    new = plan_embed(
        {"pool": pool, "encoder": config.get("encoder") or _encoder(embedded)},
        config | {"embed": config["embed"] | {"dtype": embedded["dtype"]}},
        pools,
        like=base,
    )
    n = len(pools.open(pool, "pool"))
    label = f"{pools.open(pool, 'pool').name} after {drawn['pool_size']:,} rows"
    metric = {"metric": clustering["hierarchy"]["metric"]}
    grown = Stage("extend", metric, {"hierarchy": store.kept(tree), "embeddings": new}, {}, label, n, n * 64.0)
    size = drawn["config"]["size"]
    if config["size"] is not None or config["target"] is not None:
        size = subset_size(config)
    total = drawn["pool_size"] + n
    whole("size", size, 1, total * drawn["config"]["sampler"]["max_repeats"])
    stores = {f"embeddings{number}": part for number, part in enumerate([*map(store.kept, parts), new])}
    return Stage(
        "update",
        {"sampler": drawn["config"]["sampler"], "size": size, "seed": config["seed"]},
        {"old": store.kept(old), "hierarchy": grown, **stores},
        {"parts": len(stores)},
        label,
        total,
        total * 64.0,
    )


def _new_pool(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("pool"):
        return dict(config["pool"])
    if config["data"] is None:
        raise ConfigError("data", "not given", "add data=PATH, or pool=NAME pool.path=PATH")
    return detect(str(config["data"]))


def _behind(tree: Path, store: Store) -> tuple[list[Path], dict[str, Any]]:
    """The embedding stores of the rows of a hierarchy, in their order, and the config of its clustering."""
    manifest = read_manifest(tree, "hierarchy")
    inputs, config = manifest["inputs"], manifest["config"]
    if "hierarchy" not in inputs:
        return [store.find(inputs["embeddings"])], config
    parts, config = _behind(store.find(inputs["hierarchy"]), store)
    return [*parts, store.find(inputs["embeddings"])], config


def _encoder(embedded: dict[str, Any]) -> dict[str, Any]:
    """The encoder of a store, from what its key says of it."""
    encoder: dict[str, Any] = embedded["encoder"]
    if any(str(value).startswith("sha256:") for value in encoder.values()):
        raise ConfigError("encoder", "the subset's was a local folder of a model", "give it again: encoder=...")
    return encoder


def _inventory(store: Store, embeddings: Path) -> Path:
    return store.find(read_manifest(embeddings, "embeddings")["inputs"]["pool"])


def _source_rows(inventories: list[Path]) -> Int[np.ndarray, " n"] | None:
    """Row in the users' data, one after the other, of each readable item; None where all are readable."""
    rows, first, left_out = [], 0, 0
    for inventory in inventories:
        n = read_manifest(inventory, "pool")["n"]
        bad = [item["row"] for item in json.loads((inventory / "unreadable.json").read_text())]
        rows.append(first + np.delete(np.arange(n), bad))
        first, left_out = first + n, left_out + len(bad)
    return np.concatenate(rows) if left_out else None
