"""Protocol ``segmentation``, version 1: a linear head on patch tokens, mean intersection over union."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result
from strata.eval.protocols.dense_heads import (
    DenseData,
    DenseHeads,
    Recipe,
    check_options,
    held_out_rows,
    train_heads,
)
from strata.eval.scores import Score

IGNORE = 255


@dataclass
class Segmentation(Protocol):
    """A linear head on the frozen patch tokens of the last block(s), scored at the size of each image's own map.

    Source: Oquab et al., arXiv:2304.07193, section 7.4 ("linear"), and the paper, section 4.1: batch norm and a linear
    layer on the last layer's patch tokens, AdamW at 1e-3, 40,000 steps of 16 images; logits are upsampled bilinearly.

    Departures. The whole image is brought to the network's own input size: no crops, no flips, no sliding window, so that
    tokens are computed once. Tokens are standardized by mean and scale of train in place of batch norm. The learning rate
    is chosen by mIoU on a held-out part of train, and the head is trained again on all of train.

    Metrics: ``miou`` (mean over the classes that are in the test maps or predictions; intersections and unions are summed
    over all images), ``pixel_accuracy``, ``mean_class_accuracy``. Pixels of class 255 do not count.

    Args:
        n_blocks: of how many of the last blocks the tokens are concatenated.
        learning_rates: tried together.
        steps: for the choice and again for the final fit.
        batch_size: images a step.
        weight_decay: of AdamW.
        holdout: share of train that the learning rate is chosen on.
        seed: of the held-out part, the first weights and the batches.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "segmentation"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    n_blocks: int = 1
    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    steps: int = 40000
    batch_size: int = 16
    weight_decay: float = 1e-4
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.learning_rates = tuple(sorted({float(rate) for rate in self.learning_rates}))
        check_options(
            {
                "n_blocks": (self.n_blocks >= 1, "1 or more"),
                "learning_rates": (self.learning_rates and self.learning_rates[0] > 0, "one or more numbers above 0"),
                "steps": (self.steps >= 1, "1 or more"),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "weight_decay": (self.weight_decay >= 0, "0 or more"),
                "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
            }
        )

    @property
    def patches(self) -> int:
        """See Protocol."""
        return self.n_blocks

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return ("miou", "pixel_accuracy", "mean_class_accuracy")

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError where the features have no patch tokens or maps."""
        train = DenseData(Features.open(features, "train"), self.n_blocks, False, self.id)
        heads, rate, trials = self._fit(train, device)
        test = DenseData(
            Features.open(features, "test"), self.n_blocks, False, self.id
        )  # when nothing is left to choose
        counts = predict_counts(heads, 0, test, np.arange(len(test.features)), train.features.n_classes, device)
        if not counts.sum():
            raise DataError(f"no pixel of the test maps of {benchmark} counts; check its ignored class")
        hit, target, guess = counts.transpose(1, 0, 2)  # each image x class
        columns: dict[str, Any] = {
            "row": np.arange(len(test.features)),
            "id": test.features.ids,
            "intersection": list(hit),
            "union": list(target + guess - hit),
            "pixels": list(target),
            "right_pixels": hit.sum(axis=1),
            "all_pixels": target.sum(axis=1),
        }
        recipes = {
            "miou": {"kind": "ratio", "of": "intersection", "over": "union"},
            "pixel_accuracy": {"kind": "ratio", "of": "right_pixels", "over": "all_pixels"},
            "mean_class_accuracy": {"kind": "ratio", "of": "intersection", "over": "pixels"},
        }
        details = {
            "learning_rate": rate,
            "chosen_at_end_of_learning_rates": len(self.learning_rates) > 1
            and rate in (self.learning_rates[0], self.learning_rates[-1]),
            "trials": trials,
            "iou": dict(zip(train.features.label_names, per_class_iou(counts).tolist(), strict=True)),
        }
        scores = []
        for metric, recipe in recipes.items():
            found = bootstrap(statistic_of(columns, recipe))
            numbers = (found.value, found.n, found.low, found.high)
            scores.append(Score(self.id, self.version, benchmark, metric, *numbers, details, recipe))
        return Result(scores, columns)

    def _fit(self, train: DenseData, device: torch.device) -> tuple[DenseHeads, float, list[dict[str, float]]]:
        """The head at the best learning rate on held-out images, trained on all; that rate; and how each did."""
        n_classes = train.features.n_classes
        chosen_on, fitted_on = held_out_rows(len(train.features), self.holdout, self.seed)
        heads = train_heads(train, fitted_on, self._recipe(), n_classes, pixel_loss, device, "segmentation: choose")
        trials = []
        for head, rate in enumerate(self.learning_rates):
            iou = per_class_iou(predict_counts(heads, head, train, chosen_on, n_classes, device))
            finite = bool(heads.weights[head].isfinite().all())
            trials.append({"learning_rate": rate, "miou": float(np.nanmean(iou)) if finite else -1.0})
        best = max(trials, key=lambda trial: trial["miou"])
        if best["miou"] < 0:
            raise ConfigError("protocol.learning_rates", "every head diverged", "add smaller ones")
        recipe = self._recipe((best["learning_rate"],))
        rows = np.arange(len(train.features))
        final = train_heads(train, rows, recipe, n_classes, pixel_loss, device, "segmentation: fit")
        return final, best["learning_rate"], trials

    def _recipe(self, rates: Sequence[float] | None = None) -> Recipe:
        return Recipe(rates or self.learning_rates, self.steps, self.batch_size, self.weight_decay, self.seed)


def pixel_loss(logits: Float[Tensor, "b c h w"], maps: Int[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the pixels that count; 0 where none does."""
    total = F.cross_entropy(logits, maps.long(), ignore_index=IGNORE, reduction="sum")
    return total / (maps != IGNORE).sum().clamp(min=1)


def predict_counts(
    heads: DenseHeads,
    head: int,
    data: DenseData,
    rows: Int[np.ndarray, " n"],
    n_classes: int,
    device: torch.device | str,
) -> Int[np.ndarray, "n 3 c"]:
    """For each image and class: pixels that are right, that are of the class, and that are predicted as it."""
    found = np.zeros((len(rows), 3, n_classes), np.int64)
    for i, row in enumerate(rows.tolist()):
        target = torch.from_numpy(np.array(data.targets[row])).to(device)
        with torch.no_grad():
            logits = heads(data.tokens(np.array([row]), device), head, (target.shape[0], target.shape[1]))
        found[i] = pixel_counts(logits[0].argmax(dim=0), target, n_classes).cpu().numpy()
    return found


def pixel_counts(predicted: Int[Tensor, "h w"], target: Int[Tensor, "h w"], n_classes: int) -> Int[Tensor, "3 c"]:
    """Pixels right, of the class, and predicted as it, by class; those to ignore are in none."""
    counts = target != IGNORE
    y, guess = target[counts].long(), predicted[counts].long()
    return torch.stack([torch.bincount(part, minlength=n_classes) for part in (y[y == guess], y, guess)])


def per_class_iou(counts: Int[np.ndarray, "n 3 c"]) -> Float[np.ndarray, " c"]:
    """Intersection over union of each class over all images; NaN for a class that is nowhere."""
    hit, target, guess = counts.sum(axis=0).astype(np.float64)
    union = target + guess - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)
