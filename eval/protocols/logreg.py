"""Protocol ``logreg``, version 1: logistic regression on frozen class tokens, its penalty chosen on a part of train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.curation.progress import progress
from strata.eval.features import Features
from strata.eval.protocols.heads import Classifier, Head
from strata.eval.protocols.logistic import Fitted, LogisticPath
from strata.eval.protocols.selection import ChooseBy, best_trial, check_holdout, held_out_rows

DINOV2_STRENGTHS = tuple(float(c) for c in np.logspace(-6, 5, 45))


@dataclass
class LogReg(Classifier):
    """DINOv2's logistic regression, the paper's protocol for the fine-grained sets, but for where C is chosen.

    Source: facebookresearch/dinov2#dinov2/eval/log_regression.py: class token of the last block, scaled to length 1;
    L-BFGS, L2 penalty, 45 values of C from 1e-6 to 1e5, at most 1,000 iterations; paper section 4 and Kornblith et al.
    2019 (Do better ImageNet models transfer better?), section 2 and appendix A.5, for the grid. Solutions are
    scikit-learn's ``LogisticRegression(C)``, found by other steps (``logistic.py``).

    A departure: DINOv2 needs a validation split, or takes a tenth of train that is not stratified. Here a stratified
    tenth of train is held out, every C is fitted on the rest, the best there wins and is fitted again on all of train.
    Classes without a training image are never predicted.

    Metrics: ``top1``, ``mean_per_class``. Their details list every C with its held-out accuracy and cross-entropy.

    Args:
        strengths: the grid of C. A single one is not chosen: then nothing is held out.
        normalize: scale features to length 1.
        holdout: share of train on which C is chosen.
        choose_by: "top1" on the held-out part (equals: the lower cross-entropy), or "cross_entropy".
        max_iter: most steps for one C.
        tol: a fit ends when its objective, in nats per image, can fall by less than this.
        seed: of the held-out part.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "logreg"
    version: ClassVar[int] = 1

    strengths: Sequence[float] = DINOV2_STRENGTHS
    normalize: bool = True
    holdout: float = 0.1
    choose_by: ChooseBy = "top1"
    max_iter: int = 1000
    tol: float = 1e-7
    seed: int = 0

    def __post_init__(self) -> None:
        self.strengths = tuple(sorted({float(c) for c in self.strengths}))
        checks = {
            "strengths": (self.strengths and self.strengths[0] > 0, "one or more numbers above 0"),
            "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
            "choose_by": (self.choose_by in ("top1", "cross_entropy"), "top1 or cross_entropy"),
            "max_iter": (self.max_iter >= 1, "1 or more"),
            "tol": (self.tol > 0, "a number above 0, e.g. 1e-7"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise ConfigError(f"protocol.{name}", f"{getattr(self, name)!r} is not allowed", f"use {wanted}")

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        if len(np.unique(labels)) < 2:
            problem = f"the {len(labels)} training images are of one class"
            raise ConfigError("protocol", problem, "give images of two classes or more")
        if len(self.strengths) > 1:
            check_holdout(labels)

    def fit(self, train: Features, device: torch.device | str = "cpu") -> "LogisticHead":
        """Choose C on a held-out part of ``train``, and fit it to all of ``train``."""
        self.check(train.labels, train.cls.shape[1])
        present, y = np.unique(train.labels, return_inverse=True)
        x, classes = self._inputs(train, np.arange(len(train)), device), torch.from_numpy(y).to(device)
        trials: list[dict[str, Any]] = []
        chosen, start = self.strengths[0], None
        if len(self.strengths) > 1:
            trials, solutions = self._try_all(x, classes, y, len(present))
            chosen = best_trial(trials, self.choose_by)["C"]
            start = solutions[chosen]
        path = LogisticPath(x, classes, len(present))
        if start is not None:
            path.start_at(start)
        fitted = path.fit(chosen, self.max_iter, self.tol)
        ends = (self.strengths[0], self.strengths[-1])
        details = {
            "chosen": {"C": chosen},
            "chosen_by": self.choose_by if trials else "the only one",
            "chosen_at_end_of_strengths": len(self.strengths) > 1 and chosen in ends,
            "converged": fitted.converged,
            "n_iter": fitted.n_iter,
            "seed": self.seed,
            "trials": trials,
        }
        return LogisticHead(fitted, present, train.n_classes, self, torch.device(device), details)

    def _try_all(
        self, x: Float[Tensor, "n d"], classes: Int[Tensor, " n"], y: Int[np.ndarray, " n"], n_classes: int
    ) -> tuple[list[dict[str, Any]], dict[float, Fitted]]:
        """Accuracy and cross-entropy of each C on the held-out rows, from the strongest penalty on."""
        fitted_on, judged = (torch.from_numpy(rows).to(x.device) for rows in held_out_rows(y, self.holdout, self.seed))
        path = LogisticPath(x[fitted_on], classes[fitted_on], n_classes)
        trials, solutions = [], {}
        with progress(len(self.strengths), "logreg: choose", "values of C") as bar:
            for strength in self.strengths:
                fitted = path.fit(strength, self.max_iter, self.tol)
                logits = fitted.logits(x[judged]).double()
                right = (logits.argmax(dim=1) == classes[judged]).double().mean()
                loss = torch.nn.functional.cross_entropy(logits, classes[judged])
                trials.append(
                    {
                        "C": strength,
                        "top1": float(right),
                        "cross_entropy": float(loss),
                        "n_iter": fitted.n_iter,
                        "converged": fitted.converged,
                    }
                )
                solutions[strength] = fitted
                bar.update()
        return trials, solutions

    def _inputs(
        self, features: Features, rows: Int[np.ndarray, " b"], device: torch.device | str
    ) -> Float[Tensor, "b d"]:
        x = torch.from_numpy(np.asarray(features.cls[rows, -1], np.float32)).to(device)
        return torch.nn.functional.normalize(x, dim=1) if self.normalize else x


@dataclass(frozen=True)
class LogisticHead(Head):
    """A fitted logistic regression over the classes that train has."""

    fitted: Fitted
    present: Int[np.ndarray, " K"]
    n_classes: int
    protocol: LogReg
    device: torch.device
    details: dict[str, Any]

    def logits(self, features: Features, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b C"]:
        """See Head. -inf for classes without a training image."""
        found = torch.full((len(rows), self.n_classes), -torch.inf, device=self.device)
        columns = torch.from_numpy(self.present).to(self.device)
        found[:, columns] = self.fitted.logits(self.protocol._inputs(features, rows, self.device))
        return found
