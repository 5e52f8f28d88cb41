"""Matrix products on the processor by oneDNN where torch has it: two to three times as fast as its BLAS on AMD's."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(1)
def has_onednn() -> bool:
    """Whether this torch carries oneDNN's linear layer."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(
    x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "... o"]:
    """``x @ weight.T + bias`` by oneDNN; only where ``has_onednn()``. No gradient flows through it."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def product(x: Float[Tensor, "m d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """``x @ y.T``; the order of summation is the library's. No gradient flows through it."""
    if x.device.type == "cpu" and x.dtype == y.dtype == torch.float32 and len(x) and has_onednn():
        return onednn_linear(x.contiguous(), y.contiguous())
    return x @ y.T


def summation_error(d: int, device: torch.device | str) -> float:
    """Bound on |computed - exact| of a float32 product of unit vectors of d dims, as torch is set to compute it.

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1: gamma_d = d u / (1 - d u).
    """
    rounds_inputs = torch.device(device).type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return 1.01 * (d + 2) * 2.0**-24 + (2.0**-7 if rounds_inputs else 0.0)
