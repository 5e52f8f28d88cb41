"""`strata cluster`: an embedding store (or .npy) in, a hierarchy of clusters out; on one process or on many.

The processes are those of torchrun or of Slurm (``srun``, or submitit with ``tasks_per_node``), set up by Lightning
Fabric; each runs this command with the same settings::

    torchrun --standalone --nproc-per-node 4 -m strata.experiments.cli cluster embeddings=emb target=10000 out=tree
    srun --ntasks 16 --ntasks-per-node 8 strata cluster embeddings=emb target=10000 out=tree runner.device=cuda

    executor = submitit.AutoExecutor("logs")          # the same from Python
    executor.update_parameters(nodes=2, tasks_per_node=8, gpus_per_node=8)
    executor.submit(dispatch, ["cluster", "embeddings=emb", "target=10000", "out=tree", "runner.device=cuda"])

``dispatch`` is that of ``strata.experiments.cli``. It is no stage: it writes ``out``, and until then its checkpoints to
``<out>.checkpoints``, from which the same command goes on if it was killed.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.curation.hierarchical_kmeans import HierarchicalKMeans
from strata.curation.kmeans.group import Group, join
from strata.curation.levels import resolve_levels
from strata.experiments.console.app import app
from strata.experiments.planning.checks_stages import check_hierarchy
from strata.experiments.planning.own_data import as_named, choose_levels
from strata.experiments.settings.checks import whole
from strata.experiments.settings.embeddings import open_embeddings
from strata.experiments.settings.places import new_folder


@app("cluster")
def main(config: dict[str, Any]) -> None:
    """Cluster ``embeddings`` on all processes and write the hierarchy to ``out``; process 0 says how it went."""
    if config["out"] is None:
        raise ConfigError("out", "not given", "add out=FOLDER")
    out = new_folder(config["out"], "out")
    rows, key = open_embeddings(config["embeddings"], "embeddings")
    whole("seed", config["seed"], 0, 2**32 - 1)
    if config["target"] is not None:
        whole("target", config["target"], 1)
    with as_named(config):
        settings = resolve_levels(choose_levels(config), rows.shape[0], config["target"])
        settings |= {"memory": config["memory"], "shard_centroids": config["shard_centroids"]}
        check_hierarchy(settings, rows.shape[0])
    device = config["runner"]["device"]
    torch.set_num_threads(config["runner"]["threads"])
    group = join({"auto": "auto", "cpu": "cpu"}.get(device, "cuda"))
    try:
        _fit(rows, settings, config["seed"], device, out, key, group)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _fit(rows: Any, settings: dict[str, Any], seed: int, device: str, out: Path, key: str, group: Group) -> None:
    checkpoints = out.with_name(out.name + ".checkpoints")
    model = HierarchicalKMeans(**settings, random_state=seed, device=device, checkpoint_dir=checkpoints).fit(rows)
    described = model.get_params() | {"checkpoint_dir": None}
    model.save(out, inputs={"embeddings": key} if key else None, config={"hierarchy": described, "seed": seed})
    group.barrier()
    if group.rank == 0:
        shutil.rmtree(checkpoints)
        manifest = read_manifest(out, "hierarchy")
        print(f"{manifest['n']:,} rows on {group.size} process{'es' * (group.size > 1)}")
        for number, level in enumerate(model.levels_, 1):
            print(f"level {number}: {manifest['n_clusters'][number - 1]:,} clusters, inertia {level.inertia:.6g}, "
                  f"{level.seconds:.1f} s")  # fmt: skip
        print(f"hierarchy  {out}")
