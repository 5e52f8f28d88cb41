"""Which of timm's two attentions a device runs faster: the fused kernel, or its plain matrix products."""

import torch
from torch import nn


def choose_attention(network: nn.Module, device: torch.device) -> None:
    """Set timm's own switch ``fused_attn`` of every attention: on for a GPU, off for the CPU.

    With the few tokens of a crop the score matrix is small, and the CPU's fused kernel is no faster in float32, and in
    bfloat16 its backward pass is seven times as slow as the plain products (torch 2.15, `results/benchmarks/ssl.md`).
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", device.type != "cpu")  # noqa: B010 (a module's attributes have no types)
