"""The collapse alarm: stops a run whose network gives (nearly) every image the same answer."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from strata.curation.errors import ConfigError, StrataError


class CollapsedRun(StrataError):
    """All images get (nearly) the same features or targets: more steps would be wasted."""


@dataclass
class AlarmConfig:
    """Limits of the collapse alarm; they do not change a run's result, only whether it is stopped.

    The defaults lie far outside what healthy runs show (results/benchmarks/collapse.md) and are reached by every kind of
    collapse; none was fitted to a run. A measure that a method does not report is not watched.

    Raises:
        ConfigError: a limit out of range; its field is ``ssl.alarm.<name>``.
    """

    enabled: bool = True
    min_rank: float = 1.5  # directions that features take (RankMe); 1 = all parallel
    max_cosine: float = 0.99  # mean over pairs of images; 1 = all the same
    min_information: float = 0.01  # of the teacher's targets about the image, as a share of the most there could be
    patience: int = 3  # logged steps in a row beyond a limit; one bad batch is no collapse
    after: int = -1  # steps after which it watches; -1 = the warm-up: fresh networks may look collapsed

    def __post_init__(self) -> None:
        for name, low, high in (("min_rank", 0.0, 1e9), ("max_cosine", -1.0, 1.0), ("min_information", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                problem = f"is {getattr(self, name)}"
                raise ConfigError(f"ssl.alarm.{name}", problem, f"give a number from {low:g} to {high:g}")
        if self.patience < 1:
            raise ConfigError("ssl.alarm.patience", f"is {self.patience}", "give at least 1")
        if self.after < -1:
            raise ConfigError("ssl.alarm.after", f"is {self.after}", "give a number of steps, or -1 for the warm-up")


class CollapseAlarm(pl.Callback):
    """Counts bad checks in a row, at logged steps, and stops the run at the last that patience allows."""

    def __init__(self, limits: AlarmConfig, warmup_steps: int) -> None:
        self.limits = limits
        self.after = warmup_steps if limits.after < 0 else limits.after
        self.bad = 0

    def state_dict(self) -> dict[str, int]:
        """The count: a resumed run stops at the same step."""
        return {"bad": self.bad}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count."""
        self.bad = state_dict["bad"]

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check what the method wants watched."""
        if module.wants_health and batch.part + 1 == module.config.accumulate:
            self.check(batch.step + 1, {name: module.report[name] for name in module.watched if name in module.report})

    def check(self, step: int, values: dict[str, float]) -> None:
        """Look at the measures of one logged step.

        Raises:
            CollapsedRun: one of them was beyond its limit at ``patience`` checks in a row.
        """
        if not self.limits.enabled or step <= self.after:
            return
        beyond = self._beyond(values)
        self.bad = self.bad + 1 if beyond else 0
        if self.bad >= self.limits.patience:
            raise CollapsedRun(
                f"collapsed by step {step}: {'; '.join(beyond)}, at {self.bad} checks in a row; {_ADVICE}"
            )

    def _beyond(self, values: dict[str, float]) -> list[str]:
        limits = self.limits
        found = []
        for name, setting, limit, sign in (
            ("effective_rank", "min_rank", limits.min_rank, 1),
            ("mean_cosine", "max_cosine", limits.max_cosine, -1),
            ("target_information", "min_information", limits.min_information, 1),
        ):
            if name in values and not sign * values[name] >= sign * limit:  # also catches NaN
                side = "below" if sign > 0 else "above"
                found.append(f"{name} {values[name]:.4g} is {side} ssl.alarm.{setting}={limit:g}")
        return found


_ADVICE = (
    "lower ssl.base_lr or ssl.teacher_temperature, raise ssl.momentum or ssl.koleo_weight, keep ssl.centering on, "
    "or use a larger ssl.batch_size"
)
