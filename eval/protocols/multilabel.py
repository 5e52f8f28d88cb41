"""Protocol ``multilabel``, version 1: one logistic regression a class, mean average precision as in VOC2007."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import DataError
from strata.eval.accuracy import LEVEL
from strata.eval.bootstrap import draw_weights
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result
from strata.eval.protocols.dense_heads import check_options, held_out_rows
from strata.eval.scores import Score

N_DRAWS = 200  # sorting every class for every draw is what an interval of average precision costs


@dataclass
class Multilabel(Protocol):
    """Logistic regression of every class against the rest on class tokens of the last block, by L-BFGS on the whole of train.

    Source: the paper's 12 fine-grained sets (Chen et al., arXiv:2002.05709, B.8) hold VOC2007, whose metric is the mean
    over classes of the 11-point interpolated average precision (Everingham et al., IJCV 2010, section 4.2). The strength
    of the penalty, one for all classes, is chosen by that metric on a held-out part of train. Images that are difficult
    for a class ("difficult" column) do not count for it.

    Metrics: ``map11``.

    Args:
        strengths: C of the penalty |w|^2 / (2 C), tried one after the other, each from the one before.
        max_iter: of L-BFGS.
        holdout: share of train that C is chosen on.
        seed: of the held-out part.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "multilabel"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("multilabel",)

    strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    max_iter: int = 200
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.strengths = tuple(sorted({float(c) for c in self.strengths}))
        check_options(
            {
                "strengths": (self.strengths and self.strengths[0] > 0, "one or more numbers above 0"),
                "max_iter": (self.max_iter >= 1, "1 or more"),
                "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
            }
        )

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return ("map11",)

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError if the features do not say which classes an image has."""
        train = Features.open(features, "train")
        y, counts = class_flags(train)
        x = _standardized(train, train, device)
        chosen_on, fitted_on = held_out_rows(len(train), self.holdout, self.seed)
        trials, head = [], None
        for c in self.strengths:
            head = self._solve(x[fitted_on], y[fitted_on], counts[fitted_on], c, head)
            found = class_precisions(_scores(x[chosen_on], head), y[chosen_on], counts[chosen_on])
            trials.append({"C": c, "map11": float(np.nanmean(found)) if not np.isnan(found).all() else 0.0})
        best = max(trials, key=lambda trial: trial["map11"])
        head = self._solve(x, y, counts, best["C"], None)
        test = Features.open(features, "test")  # opened when nothing is left to choose
        truth, valid = class_flags(test)
        scores = _scores(_standardized(test, train, device), head)
        precisions = class_precisions(scores, truth, valid)
        if np.isnan(precisions).all():
            raise DataError(f"no test image of {benchmark} has a class")
        draws = [_drawn(scores, truth, valid, np.flatnonzero(w), w) for w in _weights(len(test), self.seed)]
        low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        per_class = dict(zip(test.label_names, [None if np.isnan(p) else float(p) for p in precisions], strict=True))
        details = {"C": best["C"], "trials": trials, "average_precision": per_class, "n_draws": N_DRAWS}
        score = Score(
            self.id, self.version, benchmark, "map11", float(np.nanmean(precisions)), len(test), low, high, details
        )
        columns: dict[str, Any] = {"row": np.arange(len(test)), "id": test.ids, "scores": list(scores)}
        return Result([score], columns | {name: test.columns[name] for name in ("positive", "difficult")})

    def _solve(
        self, x: Tensor, y: Bool[np.ndarray, "n c"], counts: Bool[np.ndarray, "n c"], strength: float, start: Any
    ) -> tuple[Tensor, Tensor]:
        """Weights and biases [d, c], [c] that minimize the sum over classes of mean loss + |w|^2 / (2 C n)."""
        target, mask = (torch.from_numpy(part).to(x.device, x.dtype) for part in (y, counts))
        weight = (
            torch.zeros(x.shape[1], y.shape[1], device=x.device, dtype=x.dtype) if start is None else start[0]
        ).clone()
        bias = (torch.zeros(y.shape[1], device=x.device, dtype=x.dtype) if start is None else start[1]).clone()
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        solver = torch.optim.LBFGS(parameters, max_iter=self.max_iter, history_size=10, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            logits = x @ weight + bias
            loss = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * mask).sum() / len(x)
            loss = loss + weight.square().sum() / (2 * strength * len(x))
            loss.backward()
            return loss

        solver.step(closure)
        return weight.detach(), bias.detach()


def average_precision_11(scores: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> float:
    """Mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or above; NaN if nothing is right.

    Equal scores keep the order of the rows.
    """
    if not right.any():
        return float("nan")
    hit = np.cumsum(right[np.argsort(-scores, kind="stable")])
    recall, precision = hit / hit[-1], hit / np.arange(1, len(hit) + 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.mean([best_from[np.searchsorted(recall, level - 1e-12)] for level in np.linspace(0, 1, 11)]))


def class_precisions(
    scores: Float[np.ndarray, "n c"], right: Bool[np.ndarray, "n c"], counts: Bool[np.ndarray, "n c"]
) -> Float[np.ndarray, " c"]:
    """The 11-point average precision of each class over the images that count for it; NaN for a class without any."""
    return np.array(
        [average_precision_11(scores[counts[:, c], c], right[counts[:, c], c]) for c in range(scores.shape[1])]
    )


def class_flags(split: Features) -> tuple[Bool[np.ndarray, "n c"], Bool[np.ndarray, "n c"]]:
    """Which classes an image has, and which it counts for.

    Raises:
        DataError: the features have no such columns, or a class outside the classes.
    """
    missing = [name for name in ("positive", "difficult") if name not in split.columns]
    if missing:
        raise DataError(f"the features have no column {missing[0]!r}; use a benchmark whose task is multilabel")
    flags = {}
    for name in ("positive", "difficult"):
        flags[name] = np.zeros((len(split), split.n_classes), bool)
        for row, classes in enumerate(split.columns[name]):
            if classes and not 0 <= min(classes) <= max(classes) < split.n_classes:
                raise DataError(f"{split.ids[row]} has class {max(classes)} of {split.n_classes}; correct the lists")
            flags[name][row, classes] = True
    return flags["positive"], ~flags["difficult"]


def _standardized(split: Features, train: Features, device: torch.device) -> Float[Tensor, "n d"]:
    reference = train.cls[:, -1].astype(np.float64)
    x = (split.cls[:, -1].astype(np.float64) - reference.mean(axis=0)) / (reference.std(axis=0) + 1e-6)
    return torch.from_numpy(x.astype(np.float32)).to(device)


def _scores(x: Float[Tensor, "n d"], head: tuple[Tensor, Tensor]) -> Float[np.ndarray, "n c"]:
    found: np.ndarray = (x @ head[0] + head[1]).cpu().numpy()
    return found


def _weights(n: int, seed: int) -> list[Int[np.ndarray, " n"]]:
    return [row.astype(np.int64) for block in draw_weights(n, seed, N_DRAWS) for row in block]


def _drawn(scores: np.ndarray, right: np.ndarray, counts: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> float:
    """The metric on one bootstrap draw."""
    drawn = np.repeat(rows, weights[rows])
    found = class_precisions(scores[drawn], right[drawn], counts[drawn])
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")
