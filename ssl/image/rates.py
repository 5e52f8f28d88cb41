"""How fast a run goes, and what holds it up: images a second, time left, share of time spent waiting for data, MFU."""

import time

import torch
from torch import nn

from strata.curation.cost.peak import gemm_peak
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.flops import step_flops

RATES = ("images_per_s", "eta_s", "data_wait", "mfu")  # differ between two runs of the same result


class Rates:
    """A stopwatch between two log lines.

    Waiting is the time between the end of one step and the start of the next: getting the batch, moving it to the
    device, and what Lightning does in between, so it is an upper bound.

    Args:
        config: the recipe.
        module: trained; tells the device.
        world_size: processes; the rates are of all of them, the MFU is per device.
    """

    def __init__(self, config: ImageSSLConfig, module: nn.Module, world_size: int) -> None:
        self.config = config
        self.device = next(module.parameters()).device
        self._flops = step_flops(config).total / world_size if config.method == "dinov2" else None
        dtype = torch.float32 if config.precision == "32-true" else torch.bfloat16
        self._peak = gemm_peak(self.device, dtype)
        self._steps, self._waited = 0, 0.0
        self._line = self._idle = time.perf_counter()

    def begin(self) -> None:
        """A part of a step starts: the wait is over."""
        self._waited += time.perf_counter() - self._idle

    def end(self) -> None:
        """A part of a step is done, and logged and saved where it had to be."""
        self._idle = time.perf_counter()

    def count(self) -> None:
        """A whole step is done."""
        self._steps += 1

    def line(self, left: int) -> dict[str, float]:
        """The values since the last line; ``left`` is the number of steps still to do.

        Returns:
            ``images_per_s`` of all processes; ``eta_s`` seconds at this rate; ``data_wait`` share of the time from 0 to 1;
            ``mfu`` FLOPs of the model per second as a share of what the device reached in a large matrix product, which are
            counted for DINOv2 only.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # a step is done when the device is
        now = time.perf_counter()
        elapsed, steps = max(now - self._line, 1e-9), self._steps
        waited = self._waited
        self._line, self._steps, self._waited = now, 0, 0.0
        per_step = elapsed / max(steps, 1)
        values = {
            "images_per_s": steps * self.config.batch_size / elapsed,
            "eta_s": left * per_step,
            "data_wait": min(waited / elapsed, 1.0),
        }
        return values if self._flops is None else values | {"mfu": self._flops / per_step / self._peak}
