"""What is written while a language model trains: metrics.jsonl, the last checkpoint, the progress bar."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from strata.curation.progress import progress
from strata.ssl.text.flops import flops_per_token, peak_flops
from strata.ssl.text.module import CausalLM


class TextRecorder(pl.Callback):
    """Logs every ``log_every`` steps and at the last one; saves every ``config.checkpoint_every``.

    A line holds: step (done), tokens (seen), loss (of that step, nats per target), lr, grad_norm (before clipping),
    tokens_per_s and mfu (since the run was begun or resumed; of all devices).

    Args:
        folder: of the run.
        start: the first step of this run; lines of later steps that a killed run left are dropped.
        log_every: steps.
        on_metrics: also called with the values of each logged step and its number.
        show: a progress bar on stderr.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        log_every: int,
        on_metrics: Callable[[dict[str, float], int], None] | None,
        show: bool,
    ) -> None:
        self.metrics, self.checkpoint = folder / "metrics.jsonl", folder / "checkpoints" / "last.ckpt"
        self.start, self.log_every, self.on_metrics, self.show = start, log_every, on_metrics, show
        self.last: dict[str, float] = {}
        self.peak: tuple[float, str] = (0.0, "")
        self.clock, self.flops = 0.0, 0.0

    def on_fit_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Count the arithmetic of a token while the weights are whole."""
        self.flops = flops_per_token(module.lm.model, module.config.seq_len)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Drop what a killed run logged after its last checkpoint, and start the clock."""
        config = module.config
        if trainer.is_global_zero:
            lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.exists() else []
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.start]
            self.metrics.write_text("".join(kept))
        hidden = not self.show or not trainer.is_global_zero
        self.bar = progress(config.steps, "pretrain", "steps", initial=self.start, disable=hidden)
        self.peak = peak_flops(module.device, config.precision)
        self.clock = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log and save at the last pass of a step."""
        if (batch_idx + 1) % module.passes:
            return
        done = batch.step + 1
        self.bar.update(1)
        if done % self.log_every == 0 or done == module.config.steps:
            self._log(trainer, module, done)
        if done % module.config.checkpoint_every == 0 and done < module.config.steps:
            self.save(trainer)

    def teardown(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Close the bar, however the run ends."""
        if hasattr(self, "bar"):
            self.bar.close()

    def _log(self, trainer: pl.Trainer, module: CausalLM, done: int) -> None:
        loss = module.mean_loss()  # waits for the device, so the clock is right
        elapsed = max(time.perf_counter() - self.clock, 1e-9)
        rate = (done - self.start) * module.config.step_tokens / elapsed
        self.last = {
            "tokens": float(done * module.config.step_tokens),
            "loss": loss,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "grad_norm": float(module.grad_norm),
            "tokens_per_s": rate,
            "mfu": rate * self.flops / (self.peak[0] * module.world),
        }
        if not trainer.is_global_zero:
            return
        self.bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{rate:,.0f}", refresh=False)
        with open(self.metrics, "a") as stream:
            stream.write(json.dumps({"step": done, **self.last}) + "\n")
        if self.on_metrics is not None:
            self.on_metrics(self.last, done)

    def save(self, trainer: pl.Trainer) -> None:
        """Whole or not at all: written beside, flushed to the disk, then renamed. Every process takes part."""
        temporary = self.checkpoint.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(self.checkpoint)
        trainer.strategy.barrier()
