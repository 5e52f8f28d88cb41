"""What the losses need of the other processes: sums, maxima and rows. With one process each is the identity.

All processes must call these in the same order, whatever rows they have.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def world_size() -> int:
    """Number of processes of torch.distributed; 1 if it is not initialized."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(values: Tensor) -> Tensor:
    """Sum over the processes, in place; carries no gradient."""
    if world_size() > 1:
        dist.all_reduce(values, dist.ReduceOp.SUM)
    return values


def all_max(values: Tensor) -> Tensor:
    """Maximum over the processes, in place; carries no gradient."""
    if world_size() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def all_rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "world*n d"]:
    """The rows of all processes, by rank; each must give the same number. Gradients flow back to where rows came from."""
    if world_size() == 1:
        return x
    gathered: Tensor = _AllRows.apply(x)
    return gathered


class _AllRows(torch.autograd.Function):
    """Backward sums what every process has to say of a row: the gradient of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = all_sum(gradients[0].contiguous().clone())
        return total.chunk(dist.get_world_size())[dist.get_rank()]
