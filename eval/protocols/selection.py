"""How a setting is chosen: on a stratified part of train, never on test."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from strata.curation.errors import ConfigError
from strata.eval.stratify import stratified_sample

ChooseBy = Literal["top1", "cross_entropy"]


def held_out_rows(
    labels: Int[np.ndarray, " n"], share: float, seed: int
) -> tuple[Int[np.ndarray, " f"], Int[np.ndarray, " h"]]:
    """Rows to fit on and rows to judge on, both sorted; every class keeps an image to fit on."""
    held_out = stratified_sample(labels, max(1, round(share * len(labels))), seed, leave_one=True)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def check_holdout(labels: Int[np.ndarray, " n"]) -> None:
    """Raise a ConfigError if nothing can be held out."""
    if len(labels) and np.bincount(labels).max() < 2:
        problem = f"nothing of the {len(labels)} training images can be held out: each class has one"
        raise ConfigError("protocol.holdout", problem, "give a larger training set")


def best_trial(trials: Sequence[dict[str, Any]], choose_by: ChooseBy) -> dict[str, Any]:
    """The trial with the highest held-out top-1 (equals: the lower cross-entropy), or the lowest cross-entropy.

    A trial that diverged has ``cross_entropy`` None and is never chosen.

    Raises:
        ConfigError: all diverged.
    """
    converged = [trial for trial in trials if trial["cross_entropy"] is not None]
    if not converged:
        raise ConfigError("protocol.learning_rates", "every head diverged", "add smaller ones")
    by_top1 = choose_by == "top1"
    return min(converged, key=lambda trial: (-trial["top1"] if by_top1 else 0, trial["cross_entropy"]))
