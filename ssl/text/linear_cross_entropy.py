"""Cross-entropy of a linear layer over a vocabulary without the matrix of logits: rows are done in chunks.

The logits of a batch (tokens x vocabulary, float32, and their gradient) are by far the largest arrays of a small language
model. Here a chunk's gradient is computed right after its loss, so nothing of that size is kept or read twice.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.ssl.text.products import product


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "n d"],
        weight: Float[Tensor, "v d"],
        targets: Int[Tensor, " n"],
        dtype: torch.dtype,
        chunk: int,
    ) -> Float[Tensor, ""]:
        total = hidden.new_zeros((), dtype=torch.float32)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            used = weight.to(dtype)
            for start in range(0, len(hidden), chunk):
                here = slice(start, start + chunk)
                states, counted = hidden[here].to(dtype), (targets[here, None] >= 0).float()
                target = targets[here, None].clamp(min=0)  # no row is dropped: that would wait for the device
                logits = product(states, used).float()  # c v
                log_norm = logits.logsumexp(dim=1, keepdim=True)
                total += ((log_norm - logits.gather(1, target)) * counted).sum()
                gradient = logits.sub_(log_norm).exp_()  # softmax - one hot
                gradient.scatter_add_(1, target, -torch.ones_like(counted))
                gradient *= counted
                gradient = gradient.to(dtype)
                d_hidden[here] = product(gradient, used.T)
                d_weight += product(gradient.T, states.T)
        ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * grads[0].to(d_hidden.dtype), d_weight * grads[0].to(d_weight.dtype), None, None, None


def linear_cross_entropy(
    hidden: Float[Tensor, "n d"], weight: Float[Tensor, "v d"], targets: Int[Tensor, " n"], chunk: int = 512
) -> Float[Tensor, ""]:
    """Sum over rows of ``cross_entropy(hidden @ weight.T, targets)``, in nats, float32.

    Products are made in autocast's dtype where autocast is on, everything after them in float32. The memory beside the
    inputs and their gradients is ``chunk * v`` numbers.

    Args:
        hidden: last hidden states.
        weight: of the output layer (no bias).
        targets: class of each row; below 0: the row is ignored.
        chunk: rows at a time.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, dtype, chunk)
    return loss
