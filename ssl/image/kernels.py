"""Which kernels of torch a device runs fastest: same mathematics, other code. Measured in `results/benchmarks/ssl.md`."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def choose_kernels(network: nn.Module, device: torch.device) -> None:
    """Set the attentions and linear layers of a network up for a device. Parameters and their names stay.

    * timm's own switch ``fused_attn``: on for a GPU, off for the CPU. With the few tokens of a crop the score matrix is
      small; the CPU's fused kernel is no faster in float32, and its backward pass in bfloat16 is seven times as slow as
      plain products (torch 2.15).
    * ``OneDNNLinear`` on CPUs where torch's BLAS leaves half of the processor unused.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", device.type != "cpu")  # noqa: B010 (a module's attributes have no types)
        if type(module) is nn.Linear and device.type == "cpu" and blas_is_slow():
            module.__class__ = OneDNNLinear


class OneDNNLinear(nn.Linear):
    """A linear layer whose float32 products go through oneDNN; in other types torch does so itself."""

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """See ``nn.Linear``."""
        plain = type(self.weight) is nn.Parameter and x.dtype == self.weight.dtype == torch.float32
        if not plain or x.numel() == 0 or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(x)
        product: Tensor = _Product.apply(x, self.weight, self.bias)
        return product


@lru_cache(1)
def blas_is_slow() -> bool:
    """Whether torch multiplies by MKL on a processor with AVX-512 that is not Intel's: MKL then uses its AVX2 code.

    A rule, not a measurement: a choice by the clock would make the last bits of a run's weights a matter of luck.
    """
    info = Path("/proc/cpuinfo")
    intel = not info.is_file() or "GenuineIntel" in info.read_text()
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return there and wide and not intel and torch.backends.mkl.is_available()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


class _Product(torch.autograd.Function):
    """x @ weight^T + bias; all three products of forward and backward by the same primitive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        rows = gradient.flatten(0, -2)  # n o
        need_x, need_weight, need_bias = ctx.needs_input_grad
        of_x = _linear(gradient, weight.t().contiguous(), None) if need_x else None
        of_weight = _linear(rows.t().contiguous(), x.flatten(0, -2).t().contiguous(), None) if need_weight else None
        return of_x, of_weight, rows.sum(dim=0) if need_bias else None
