"""Training runs in processes of their own, as torchrun would start them, for test_ssl_processes."""

import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain
from strata.ssl.image.recorder import Recorder


def train(out: Path, settings: dict) -> None:
    pretrain(
        ImageSSLConfig(**settings),
        RenderedPool(40),
        np.arange(30),
        out,
        seed=0,
        log_every=1,
        progress=False,
        device="cpu",
    )


def train_in_processes(world: int, root: Path, cases: dict[str, dict]) -> list[int | None]:
    """Run every case on ``world`` processes into ``root / name``; returns the exit codes.

    A case with ``stop_at`` is stopped on all processes after that step, and then run again to its end.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(rank, world, port, root, cases)) for rank in range(world)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("OMP_NUM_THREADS", "1")
        for process in processes:
            process.start()
    for process in processes:
        process.join(240)
        if process.is_alive():
            for other in processes:
                other.kill()
            raise AssertionError("a process hangs")
    return [process.exitcode for process in processes]


def _work(rank: int, world: int, port: int, root: Path, cases: dict[str, dict]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0",
    }  # fmt: skip
    torch.set_num_threads(1)
    for name, case in cases.items():
        settings = {key: value for key, value in case.items() if key != "stop_at"} | {"devices": world}
        if "stop_at" in case:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
                patch.setattr(Recorder, "_log", _stop_after(case["stop_at"]))
                train(root / name, settings)
            assert not (root / name).exists()
        train(root / name, settings)


def _stop_after(step: int):
    log = Recorder._log

    def stopped(self, module, done):
        log(self, module, done)
        if done == step:
            raise KeyError("stop")

    return stopped
