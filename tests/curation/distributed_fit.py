"""Fits in processes of their own, for test_distributed: forked from a server that has imported everything already."""

import datetime
import json
import multiprocessing
import os
import signal
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from strata.curation import HierarchicalKMeans
from strata.curation.kmeans import group as group_module
from strata.curation.kmeans import points as points_module

SMALL = {"n_clusters": (70, 8), "n_resamples": 2, "resample_size": 3, "n_iter": 5, "verbose": False}


def blobs(n: int = 1000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(60, 8)) * 4
    return (means[rng.integers(60, size=n)] + rng.normal(size=(n, 8))).astype(np.float32)


def fit_in_processes(
    world: int, folder: Path, cases: dict, *, block: int = 64, threads: int = 1, kill=None, watch=False
) -> list:
    """Fit every case on ``world`` processes; each saves into ``folder / case``. Returns the exit codes.

    ``kill``: (rank, number of the message between processes at which it is killed with SIGKILL).
    ``watch``: write the rows of the largest table of centroids, and of sums, that each process made of all its rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distributed_server"])
    meeting = folder / f"meet-{uuid.uuid4().hex}"
    processes = [
        context.Process(target=_work, args=(rank, world, str(meeting), folder, cases, block, threads, kill, watch))
        for rank in range(world)
    ]
    with pytest.MonkeyPatch.context() as patch:  # the server, started with the first process, must find its module
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        for process in processes:
            process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError("a process hangs")
    return [process.exitcode for process in processes]


def _work(rank, world, meeting, folder, cases, block, threads, kill, watch):
    torch.set_num_threads(threads)
    group_module.BLOCK = points_module.BLOCK = block
    if world > 1:
        wait = datetime.timedelta(seconds=60)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=wait)
    if kill is not None and kill[0] == rank:
        _die_at(kill[1])
    for name, (X, settings) in cases.items():
        held = _watched() if watch else []
        model = HierarchicalKMeans(**(SMALL | settings)).fit(X)
        model.save(folder / name)
        runs = [(level.inertias, level.n_iter, level.history) for level in model.levels_]
        if watch:
            (folder / f"{name}-{rank}.held").write_text(str(max(held)))
        (folder / f"{name}-{rank}.json").write_text(json.dumps([runs, model.inertia_]))
    if world > 1:
        dist.destroy_process_group()


def _watched() -> list[int]:
    """Filled with the number of rows of every table of centroids and of sums made from now on."""
    from strata.curation.kmeans import distance, lloyd, parts, sums

    held: list[int] = []
    make, zeros = distance.make_table, sums.ClusterSums.zeros.__func__

    def make_table(points, centroids):
        if points.group.size > 1:  # not those of the few rows that a process works on by itself
            held.append(len(centroids))
        return make(points, centroids)

    def counted(cls, share, *args):
        made = zeros(cls, share, *args)
        if share.group.size > 1:
            held.append(len(made.totals))
        return made

    parts.make_table = lloyd.make_table = distance.make_table = make_table
    sums.ClusterSums.zeros = classmethod(counted)
    return held


def _die_at(number: int) -> None:
    """Kill -9 this process at its ``number``-th message, or, where it is negative, that save of a checkpoint."""
    from strata.curation.kmeans.checkpoints import Checkpoints

    owner, name = (group_module.Group, "_tensor") if number >= 0 else (Checkpoints, "save")
    call, count = getattr(owner, name), 0

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        if count == abs(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    setattr(owner, name, counted)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the saved hierarchies, and what each process found."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.glob("*/**/*") if file.is_file()}
    assert files and not any("partial" in name for name in files)
    return files


def reports(folder: Path, case: str) -> set[str]:
    return {file.read_text() for file in folder.glob(f"{case}-*.json")}
