"""Schedules as pure functions of the step: nothing to save, so a resumed run cannot drift from an uninterrupted one."""

import math
from dataclasses import dataclass

from strata.ssl.image.config import ImageSSLConfig


def cosine_schedule(step: int, total: int, start: float, end: float, warmup: int = 0) -> float:
    """Linear from 0 to ``start`` over ``warmup`` steps, then half a cosine from ``start`` to ``end``.

    ``step`` counts from 0. The value is ``start`` at step ``warmup`` and ``end`` at step ``total - 1``, the last one.
    """
    if step < warmup:
        return start * (step + 1) / (warmup + 1)  # never 0: the first step would be wasted
    span = total - 1 - warmup
    progress = min((step - warmup) / span, 1.0) if span > 0 else 1.0
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def linear_schedule(step: int, warmup: int, start: float, end: float) -> float:
    """Linear from ``start`` at step 0 to ``end`` at step ``warmup``, then constant."""
    return end if step >= warmup else start + (end - start) * step / warmup


@dataclass(frozen=True)
class StepValues:
    """All that depends on the step only."""

    lr: float
    last_layer_lr: float  # of the prototypes: 0 while frozen
    weight_decay: float
    momentum: float  # of the teacher's average
    teacher_temperature: float


def step_values(config: ImageSSLConfig, step: int) -> StepValues:
    """The values at a step (0 is the first). Source: `dinov2#train/train.py` (build_schedulers)."""
    lr = cosine_schedule(step, config.steps, config.lr, min(config.min_lr, config.lr), config.warmup_steps)
    return StepValues(
        lr=lr,
        last_layer_lr=0.0 if step < config.freeze_last_layer_steps else lr,
        weight_decay=cosine_schedule(step, config.steps, config.weight_decay, config.weight_decay_end),
        momentum=cosine_schedule(step, config.steps, config.momentum, config.momentum_end),
        teacher_temperature=linear_schedule(
            step, config.teacher_temperature_steps, config.teacher_temperature_start, config.teacher_temperature
        ),
    )
