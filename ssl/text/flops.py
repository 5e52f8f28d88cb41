"""Arithmetic of a training step, and how much of the device's peak it is (MFU)."""

import time
from typing import Any

import torch

# Dense bfloat16 peaks in FLOP/s, from the vendors' data sheets (no sparsity); float32 runs as TF32 or less
_BF16_PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
}


def flops_per_token(model: Any, seq_len: int) -> float:
    """Forward and backward: 6 per weight that multiplies, and 6 * layers * width * seq_len for causal attention.

    Source: PaLM, arXiv:2204.02311, appendix B (12 * layers * width * seq_len), halved as a causal mask hides half. The input
    embedding multiplies nothing; the output layer does, also where the two are one.
    """
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not tied:
        weights -= model.get_input_embeddings().weight.numel()
    config = model.config
    return 6.0 * weights + 6.0 * config.num_hidden_layers * config.hidden_size * seq_len


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """FLOP/s that the device could do at most, and where the number is from.

    A known GPU in bfloat16 has its data sheet's peak. Anything else is measured by a large matrix product.
    """
    if device.type == "cuda" and precision != "32-true":
        name = torch.cuda.get_device_name(device)
        for known, peak in _BF16_PEAKS.items():
            if known in name:
                return peak, f"data sheet of {known}"
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    size = 2048 if device.type == "cuda" else 1024
    a = torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best, f"measured: {size}^3 product in {str(dtype).removeprefix('torch.')}"
