"""What is written while a run goes on: metrics.jsonl, and the progress bar."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from strata.curation.progress import progress
from strata.ssl.image.learner import Learner
from strata.ssl.image.schedules import step_values


class Recorder(pl.Callback):
    """Logs every ``log_every`` steps and at the last one.

    Args:
        folder: of the run; gets ``metrics.jsonl``.
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
        self.metrics = folder / "metrics.jsonl"
        self.start, self.log_every, self.on_metrics, self.show = start, log_every, on_metrics, show
        self.clock, self.images = time.perf_counter(), 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Drop what a killed run logged after its last checkpoint, and start the clock."""
        self.clock = time.perf_counter()
        self.writes = trainer.is_global_zero
        if not self.writes:
            return
        lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.start]
        self.metrics.write_text("".join(kept))
        config = module.config
        self.bar = progress(config.steps, "pretrain", "steps", initial=self.start, disable=not self.show)

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Tell the module whether this step is logged."""
        done = batch.step + 1
        module.wants_health = done % self.log_every == 0 or done == module.config.steps

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log. ``step`` in the log is the number of steps done."""
        done = batch.step + 1
        if batch.part + 1 < module.config.accumulate:
            return
        self.images += module.config.batch_size
        if self.writes:
            self.bar.update(1)
        if module.wants_health:
            self._log(module, done)

    def teardown(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Close the bar, however the run ends."""
        if hasattr(self, "bar"):
            self.bar.close()

    def _log(self, module: Learner, done: int) -> None:
        schedule = step_values(module.config, done - 1)
        elapsed = time.perf_counter() - self.clock
        values = module.report | {
            "lr": schedule.lr,
            "momentum": schedule.momentum,
            "teacher_temperature": schedule.teacher_temperature,
            "images_per_s": self.images / max(elapsed, 1e-9),
        }
        if self.writes:
            self._write(values, done)

    def _write(self, values: dict[str, float], done: int) -> None:
        self.bar.set_postfix(loss=f"{values['loss']:.3f}", rank=f"{values['effective_rank']:.1f}", refresh=False)
        with open(self.metrics, "a") as stream:
            stream.write(json.dumps({"step": done, **values}) + "\n")
        if self.on_metrics is not None:
            self.on_metrics(values, done)
