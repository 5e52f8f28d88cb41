"""What this device can multiply at most: the yardstick of model FLOPs utilization (MFU)."""

import time
from collections.abc import Callable
from functools import lru_cache

import torch

from strata.curation.kmeans.distance import full_precision


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Best FLOP/s of a large matrix product, on torch's present number of threads. Measured once a process, in 0.2 s or 0.4 s.

    On the CPU the better of torch's BLAS and oneDNN counts, whichever of them the training then uses. It is wall time:
    on a machine with other load it is what is left, as is the training's rate.
    """
    return _measured(device.type, device.index or 0, dtype, torch.get_num_threads())


@lru_cache
def _measured(kind: str, index: int, dtype: torch.dtype, threads: int) -> float:
    device = torch.device(kind, index) if kind != "cpu" else torch.device("cpu")
    side = 1024 if kind == "cpu" else 8192
    a = torch.full((side, side), 0.5, dtype=dtype, device=device)  # no generator is touched
    operations: list[Callable[[], object]] = [lambda: a @ a.T]
    if kind == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        operations.append(lambda: torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""))
    with torch.no_grad(), full_precision():
        return max(2.0 * side**3 / _seconds(operation, device) for operation in operations)


def _seconds(operation: Callable[[], object], device: torch.device, budget: float = 0.2) -> float:
    """The shortest of the calls that fit into ``budget`` seconds."""
    times: list[float] = []
    while sum(times) < budget:
        began = time.perf_counter()
        operation()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)
