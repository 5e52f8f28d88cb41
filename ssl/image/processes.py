"""Training on several devices: processes that torchrun or Slurm started, tied together by Lightning (DDP or FSDP2).

Nothing here starts a process. One machine: ``torchrun --nproc-per-node 8 script.py``; several: ``srun`` or torchrun's
rendezvous. Every process calls ``pretrain`` with the same arguments; the first one writes.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from strata.curation.artifact import Draft, create_artifact
from strata.curation.errors import ConfigError
from strata.curation.kmeans.group import Group, join
from strata.ssl.image.config import ImageSSLConfig


def join_processes(config: ImageSSLConfig, accelerator: str) -> Group:
    """Set up torch.distributed if there are to be several processes.

    Raises:
        ConfigError: the launcher started another number of processes than the settings say.
    """
    wanted = config.devices * config.num_nodes
    started = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    if dist.is_available() and dist.is_initialized():
        started = dist.get_world_size()
    if started != wanted:
        launcher = f"torchrun --nnodes {config.num_nodes} --nproc-per-node {config.devices}"
        raise ConfigError(
            "ssl.devices",
            f"{config.devices} on each of ssl.num_nodes={config.num_nodes} are {wanted} processes, {started} run",
            f"start them with `{launcher} ...`" if started == 1 else "make the two agree with the launcher",
        )
    return join(accelerator) if wanted > 1 else Group()


def trainer_arguments(config: ImageSSLConfig) -> dict[str, Any]:
    """What Lightning's Trainer must know of devices and of the parts of a step."""
    arguments: dict[str, Any] = {
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "accumulate_grad_batches": config.accumulate,
        "use_distributed_sampler": False,  # batches are dealt out already
    }
    world = config.devices * config.num_nodes
    if world == 1:  # the process as it is, whatever the environment says
        return arguments | {"plugins": [LightningEnvironment()]}
    if config.strategy == "fsdp":
        spread = ModelParallelStrategy(world, tensor_parallel_size=1, save_distributed_checkpoint=False)
        return arguments | {"strategy": spread}
    return arguments | {"strategy": DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)}


def shard(network: nn.Module, blocks: list[nn.Module], parts: list[nn.Module]) -> None:
    """FSDP2: weights, gradients and optimizer states lie spread over the processes, each block gathered when it is used.

    Args:
        network: student or teacher. Both are spread in the same way, so the teacher's average needs no message.
        blocks: gathered one at a time.
        parts: what calls the blocks, and the heads; they hold the other parameters.
    """
    from torch.distributed.fsdp import fully_shard

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mesh = dist.init_device_mesh(device, (dist.get_world_size(),))
    for module in (*blocks, *parts):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)  # also the teacher, which has no backward pass


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The whole state dict on the CPU; where weights are spread, all processes must call it, and all get it."""
    return {name: _whole(value.detach()).cpu().contiguous() for name, value in module.state_dict().items()}


def _whole(value: Tensor) -> Tensor:
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole


@contextlib.contextmanager
def shared_artifact(group: Group, path: str | Path, kind: str, **about: Any) -> Iterator[Draft]:
    """``create_artifact`` by the first process; the others get a draft of the same folder and wait at both ends."""
    if group.rank == 0:
        with create_artifact(path, kind, **about) as draft:
            _wait(group)
            yield draft
        _wait(group)
        return
    _wait(group)
    final = Path(path)
    yield Draft(final.with_name(final.name + ".partial"))
    _wait(group)


def _wait(group: Group) -> None:
    if group.size > 1:
        flag = torch.zeros(1, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag)
