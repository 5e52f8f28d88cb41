"""Matrix products in float32 on a CPU by oneDNN: about twice as fast where torch's BLAS does not know the processor.

torch multiplies float32 matrices on x86 by MKL, which takes its slow path on processors of other makers; oneDNN, which torch
carries too, does not. Everywhere else (GPU, other types, autocast) this is torch's own product.
"""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@lru_cache(1)
def _available() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(a: Float[Tensor, "n k"], b: Float[Tensor, "m k"]) -> Float[Tensor, "n m"]:
    """``a @ b.T``. No gradient flows through it."""
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and len(a) and _available():
        found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return found
    return a @ b.T


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "... k"], weight: Float[Tensor, "m k"]) -> Float[Tensor, "... m"]:
        ctx.save_for_backward(x, weight)
        return product(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = grads[0].reshape(-1, len(weight))
        d_x = product(gradient, weight.T).view(x.shape)
        return d_x, product(gradient.T, x.reshape(-1, x.shape[-1]).T)


def use_products(model: nn.Module) -> None:
    """Let the linear layers of a model (those without bias) multiply by ``product`` where that is another way."""
    for module in model.modules():
        if type(module) is nn.Linear and module.bias is None:
            module.forward = _forward.__get__(module)  # type: ignore[method-assign]


def _forward(self: nn.Linear, x: Float[Tensor, "... k"]) -> Float[Tensor, "... m"]:
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or type(self.weight) is not nn.Parameter:  # a sharded weight multiplies its own way
        return nn.functional.linear(x, self.weight)
    found: Tensor = _Linear.apply(x, self.weight)
    return found
