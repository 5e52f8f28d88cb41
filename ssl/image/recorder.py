"""What is written while a run goes on: metrics.jsonl, and the progress bar."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from strata.curation.progress import progress
from strata.ssl.image.learner import Learner
from strata.ssl.image.rates import Rates
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

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Drop what a killed run logged after its last checkpoint, and start the clock."""
        self.writes = trainer.is_global_zero
        if not self.writes:
            return
        lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.start]
        self.metrics.write_text("".join(kept))
        config = module.config
        self.bar = progress(config.steps, "pretrain", "steps", initial=self.start, disable=not self.show)
        self.rates = Rates(config, module, trainer.world_size)

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Tell the module whether this step is logged."""
        if self.writes:
            self.rates.begin()
        done = batch.step + 1
        module.wants_health = done % self.log_every == 0 or done == module.config.steps

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log. ``step`` in the log is the number of steps done."""
        if batch.part + 1 == trainer.accumulate_grad_batches:
            self._step_done(module, batch.step + 1)

    def _step_done(self, module: Learner, done: int) -> None:
        if self.writes:
            self.rates.count()
            self.bar.update(1)
        if module.wants_health:
            self._log(module, done)

    def teardown(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Close the bar, however the run ends."""
        if hasattr(self, "bar"):
            self.bar.close()

    def _log(self, module: Learner, done: int) -> None:
        schedule = step_values(module.config, done - 1)
        values = module.report | {
            "lr": schedule.lr,
            "momentum": schedule.momentum,
            "teacher_temperature": schedule.teacher_temperature,
        }
        if self.writes:
            self._write(values | self.rates.line(left=module.config.steps - done), done)

    def _write(self, values: dict[str, float], done: int) -> None:
        shown = {"loss": "loss", "rank": "effective_rank", "img/s": "images_per_s", "wait": "data_wait", "mfu": "mfu"}
        known = {name: f"{values[value]:.3g}" for name, value in shown.items() if value in values}
        self.bar.set_postfix(known, refresh=False)
        with open(self.metrics, "a") as stream:
            stream.write(json.dumps({"step": done, **values}) + "\n")
        if self.on_metrics is not None:
            self.on_metrics(values, done)


class StepEnd(pl.Callback):
    """Last of the callbacks: what those before did (logging, saving, probing) is no waiting for data."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The next step may begin."""
        if self.recorder.writes:
            self.recorder.rates.end()
