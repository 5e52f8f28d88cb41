"""A look from outside at the backbone while it trains: online k-NN, or whatever the caller wants to measure."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from timm.models.vision_transformer import VisionTransformer

# Given the backbone that would be exported now, in eval mode and without gradients; the names go into metrics.jsonl
Probe = Callable[[VisionTransformer], dict[str, float]]


class ProbeCallback(pl.Callback):
    """Calls a probe every ``every`` steps and at the last one, and adds its values to the module's report.

    It changes nothing of the run: modes and random generators are put back. With several processes each calls it.
    """

    def __init__(self, probe: Probe, every: int) -> None:
        self.probe, self.every = probe, every
        self._names: tuple[str, ...] = ()

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Values are of one step: the next lines of the log do not repeat them."""
        for name in self._names:
            module.report.pop(name, None)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between steps."""
        done, config = batch.step + 1, module.config
        if batch.part + 1 == config.accumulate and (done % self.every == 0 or done == config.steps):
            backbone = module.exports()["model"]
            mode = backbone.training
            with torch.random.fork_rng(), torch.no_grad():
                values = self.probe(backbone.eval())
            backbone.train(mode)
            self._names = tuple(values)
            module.report |= values
