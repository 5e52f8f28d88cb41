"""Protocol ``linear``, version 1: linear heads on frozen tokens, their setting chosen on a held-out part of train."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.curation.progress import progress
from strata.eval.features import Features
from strata.eval.protocols.heads import Classifier, Head
from strata.eval.protocols.inputs import HeadInputs, read_input
from strata.eval.protocols.selection import ChooseBy, best_trial, check_holdout, held_out_rows
from strata.eval.protocols.sgd_heads import SGDHeads, step_together

DINOV2_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)


@dataclass(frozen=True)
class Setting:
    """One point of the grid: the learning rate (before scaling) and what the head reads."""

    learning_rate: float
    n_blocks: int
    avgpool: bool


@dataclass(frozen=True)
class Probe(Head):
    """A fitted head, the setting that won, and how every setting did on the held-out part of train."""

    setting: Setting
    weight: Float[Tensor, "D C"]
    bias: Float[Tensor, " C"]
    trials: list[dict[str, Any]]
    details: dict[str, Any]

    def logits(self, features: Features, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b C"]:
        """See Head."""
        x = read_input(features, rows, self.setting.n_blocks, self.setting.avgpool, self.weight.device)
        return x @ self.weight + self.bias


@dataclass
class Linear(Classifier):
    """DINOv2's linear evaluation, but for where the setting is chosen and for augmentation.

    Source: facebookresearch/dinov2#dinov2/eval/linear.py: a grid of learning rates x {last 1, 4 blocks} x {class token,
    class token + mean patch token of the last block}; SGD, momentum 0.9, no weight decay, cosine to 0; a rate is scaled
    by batch_size / 256; 10 x 1250 steps of 128 images per GPU.

    Two departures. DINOv2 picks the best head on the very set it reports; here a stratified part of train is held out,
    every head is trained on the rest, the best one there wins, is trained again on all of train, and scores the test
    set once. And features are computed once from center crops,
    where DINOv2 augments.

    Metrics: ``top1``, ``mean_per_class``. Their details list every setting with its held-out accuracy, and whether the
    winner stands at an end of the learning rates (then widen them).

    Args:
        learning_rates: the grid, before scaling.
        n_blocks: how many of the last blocks to concatenate the class tokens of.
        avgpool: whether to append the mean patch token of the last block.
        steps: SGD steps, for the choice and again for the final fit.
        batch_size: images a step. Batches run through seeded permutations of train, one after the other.
        momentum: of SGD.
        holdout: share of train on which the setting is chosen.
        choose_by: "top1" on the held-out part (DINOv2's; equals: the lower cross-entropy), or "cross_entropy", which is
            steadier where the part is small or top-1 is near chance.
        seed: of the held-out part, the first weights and the batches.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "linear"
    version: ClassVar[int] = 1

    learning_rates: Sequence[float] = DINOV2_RATES
    n_blocks: Sequence[int] = (1, 4)
    avgpool: Sequence[bool] = (False, True)
    steps: int = 12500
    batch_size: int = 128
    momentum: float = 0.9
    holdout: float = 0.1
    choose_by: ChooseBy = "top1"
    seed: int = 0

    def __post_init__(self) -> None:
        self.learning_rates = tuple(sorted({float(rate) for rate in self.learning_rates}))
        self.n_blocks, self.avgpool = tuple(sorted(set(self.n_blocks))), tuple(sorted(set(self.avgpool)))
        checks = {
            "learning_rates": (self.learning_rates and self.learning_rates[0] > 0, "one or more numbers above 0"),
            "n_blocks": (self.n_blocks and min(self.n_blocks) >= 1, "one or more numbers, each 1 or more, e.g. [1, 4]"),
            "avgpool": (self.avgpool and set(self.avgpool) <= {False, True}, "[false], [true] or [false, true]"),
            "steps": (self.steps >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1), e.g. 0.9"),
            "choose_by": (self.choose_by in ("top1", "cross_entropy"), "top1 or cross_entropy"),
            "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise ConfigError(f"protocol.{name}", f"{getattr(self, name)!r} is not allowed", f"use {wanted}")

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        if max(self.n_blocks) > n_blocks:
            problem = f"{max(self.n_blocks)} blocks, but the features hold {n_blocks}"
            raise ConfigError("protocol.n_blocks", problem, f"use at most {n_blocks}")
        check_holdout(labels)

    def fit(self, train: Features, device: torch.device | str = "cpu") -> Probe:
        """Choose the setting on a held-out part of ``train``, and fit it to all of ``train``."""
        self.check(train.labels, train.cls.shape[1])
        fitted_on, held_out = held_out_rows(train.labels, self.holdout, self.seed)
        trials = self._try_all(train, fitted_on, held_out, device)
        best = best_trial(trials, self.choose_by)
        setting = Setting(best["learning_rate"], best["n_blocks"], best["avgpool"])
        (heads,) = self._train(train, np.arange(len(train)), [setting], device, "linear: fit").values()
        if not heads.weight.isfinite().all():
            problem = f"{setting.learning_rate} was chosen, but diverges on all of train"
            raise ConfigError("protocol.learning_rates", problem, f"leave out {setting.learning_rate} and above")
        ends = (self.learning_rates[0], self.learning_rates[-1])
        details = {
            "chosen": asdict(setting),
            "chosen_by": self.choose_by,
            "chosen_at_end_of_learning_rates": len(self.learning_rates) > 1 and setting.learning_rate in ends,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "trials": trials,
        }
        return Probe(setting, heads.weight[:, 0], heads.bias[0], trials, details)

    def _try_all(
        self, train: Features, fitted_on: np.ndarray, held_out: np.ndarray, device: torch.device | str
    ) -> list[dict[str, Any]]:
        """Accuracy and cross-entropy of each setting on the held-out rows. A head that diverged has top-1 -1."""
        grid = itertools.product(self.learning_rates, self.n_blocks, self.avgpool)
        by_input = self._train(train, fitted_on, [Setting(*point) for point in grid], device, "linear: choose")
        y = torch.from_numpy(train.labels[held_out]).to(device)
        trials = []
        for (n_blocks, avgpool), heads in by_input.items():
            logits = heads.logits(read_input(train, held_out, n_blocks, avgpool, device)).double()  # m H C
            right = (logits.argmax(dim=2) == y[:, None]).double().mean(dim=0)
            loss = logits.logsumexp(dim=2).sub(logits[torch.arange(len(y)), :, y]).mean(dim=0)
            for rate, accuracy, entropy in zip(self.learning_rates, right.tolist(), loss.tolist(), strict=True):
                finite = np.isfinite(entropy)
                found = {"top1": accuracy if finite else -1.0, "cross_entropy": entropy if finite else None}
                trials.append({**asdict(Setting(rate, n_blocks, avgpool)), **found})
        return trials

    def _train(
        self, train: Features, rows: np.ndarray, settings: list[Setting], device: torch.device | str, what: str
    ) -> dict[tuple[int, bool], SGDHeads]:
        """Train one head per setting on these rows, all in one pass; heads by input, in the order of their rates."""
        rates: dict[tuple[int, bool], list[float]] = {}
        for setting in settings:
            rates.setdefault((setting.n_blocks, setting.avgpool), []).append(setting.learning_rate)
        heads = {
            (n_blocks, avgpool): SGDHeads(
                (n_blocks + avgpool) * train.cls.shape[2],
                train.n_classes,
                torch.tensor(of_input, dtype=torch.float64) * self.batch_size / 256,
                momentum=self.momentum,
                seed=self.seed,
                device=device,
            )
            for (n_blocks, avgpool), of_input in rates.items()
        }
        labels = torch.from_numpy(np.array(train.labels)).to(device)
        inputs = HeadInputs(train, max(setting.n_blocks for setting in settings), device)
        columns = [inputs.columns(*of_input) for of_input in heads]
        with progress(self.steps, what, "steps") as bar:
            for step, batch in enumerate(batches(rows, self.batch_size, self.steps, self.seed)):
                x, y = inputs.batch(batch), labels[torch.from_numpy(batch).to(device)]
                step_together(list(heads.values()), x, columns, y, step / self.steps)
                bar.update()
        return heads


def batches(rows: Int[np.ndarray, " n"], size: int, steps: int, seed: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Batches cut from seeded permutations of ``rows`` laid end to end; always full, also when n < size."""
    rng = np.random.default_rng(seed)
    queue = np.empty(0, np.int64)
    for _ in range(steps):
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(rows)])
        yield queue[:size]
        queue = queue[size:]
