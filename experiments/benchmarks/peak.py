"""What this machine's cores can multiply: the yardstick of the k-means benchmark."""

import time

import numpy as np
import torch

from strata.curation.kmeans.match import has_bfloat16
from strata.curation.products import has_onednn, onednn_linear


def cpu_and_wall() -> tuple[float, float]:
    """CPU seconds of this process, all threads, and wall seconds."""
    return time.process_time(), time.perf_counter()


def gemm_peaks(d: int) -> dict[str, float]:
    """Best GFLOP per CPU second of products [4096, d] x [d, 2048]: numpy's BLAS, torch's, and bfloat16."""
    x, c = torch.randn(4096, d), torch.randn(2048, d)
    left, right = x.numpy(), np.ascontiguousarray(c.numpy())
    operations = {"numpy float32": lambda: left @ right.T, "torch float32": lambda: x @ c.T}
    if has_onednn():
        operations["oneDNN float32"] = lambda: onednn_linear(x, c)
    if has_bfloat16():
        low, low_c = x.bfloat16(), c.bfloat16()
        operations["oneDNN bfloat16"] = lambda: low @ low_c.T
    peaks = {}
    for name, operation in operations.items():
        operation()
        rates = []
        for _ in range(7):
            began = time.process_time()
            operation()
            rates.append(2 * 4096 * 2048 * d / (time.process_time() - began) / 1e9)
        peaks[name] = max(rates)
    return peaks
