"""Stopping in time: SIGUSR1 (Slurm, before a job's limit) and SIGTERM save a checkpoint after the current step."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from strata.ssl.losses.group import all_max

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class Preempted(KeyboardInterrupt):
    """A signal ended the run after a step that is saved; the same command goes on from there."""


class StopOnSignal(pl.Callback):
    """After the step in which a process is told to stop: all processes save, and the run ends.

    Under Slurm, SIGUSR1 also puts the job back into the queue (``sbatch --signal=USR1@120 --requeue`` sends it two minutes
    before the limit). A second signal does what it would have done without us.

    Args:
        save: writes the checkpoint; called in every process.
    """

    def __init__(self, save: Callable[[pl.Trainer], None]) -> None:
        self.save = save
        self.received: signal.Signals | None = None
        self.stopped_at: int | None = None  # steps done
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Listen, in place of Lightning, whose handler for SIGTERM ends the run unsaved. Lightning puts the old ones back."""
        if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)

    def teardown(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Stop listening, however the run ends."""
        self._restore()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between steps: has any process been told?"""
        if batch.part + 1 < module.config.accumulate:
            return
        told = torch.tensor(float(self.received is not None), device=module.device)
        done = batch.step + 1
        if all_max(told) and done < module.config.steps:
            self.save(trainer)
            self.stopped_at = done
            trainer.should_stop = True

    def raise_if_stopped(self, first: bool) -> None:
        """After the fit: put the job back into Slurm's queue (from the first process), and tell the caller.

        Raises:
            Preempted: a signal came.
        """
        if self.stopped_at is None:
            return
        name = self.received.name if self.received else "a signal to another process"
        requeued = requeue() if first and self.received is signal.SIGUSR1 else ""
        raise Preempted(f"stopped by {name} after step {self.stopped_at}, which is saved{requeued}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def requeue() -> str:
    """Put this Slurm job back into the queue. Says what came of it; nothing outside Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not job:
        return ""
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"; Slurm did not requeue job {job} ({error}): submit it again"
    return f"; Slurm job {job} is back in the queue"
