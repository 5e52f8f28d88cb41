"""Protocol ``transfer``, version 1: a head fitted on one training set, reused as it is on shifted test sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from strata.eval.features import FeatureFolders, splits_of
from strata.eval.protocols.base import Protocol, Result, prediction_columns
from strata.eval.protocols.classmap import in_classes_of
from strata.eval.protocols.heads import Classifier, open_labelled
from strata.eval.protocols.linear import Linear
from strata.eval.scores import Score


@dataclass
class Transfer(Protocol):
    """One head for ImageNet's validation set and for V2, ReaL, -A, -R, Sketch and ObjectNet, or for other shifts.

    Source: paper section 4 (columns "val" to "objnet" of Table 5a: the linear head is reused); ReaL counts any of an
    image's accepted classes as right (Beyer et al. 2020); -A and -R are scored among their 200 classes (Hendrycks et al.
    2021); ObjectNet has classes that are several of ImageNet's (Barbu et al. 2019). What may be predicted and what is
    accepted belong to the test set (``Features.candidates``, column "accepted"); classes are matched by name.

    Every split but "train" is scored. Metrics: ``top1`` and ``mean_per_class`` of "test", ``top1_<split>`` and
    ``mean_per_class_<split>`` of the others; of another head than the linear one with its name before them: ``knn_top1``.

    Args:
        classifier: the protocol whose head it is; its settings are chosen on a held-out part of train.
    """

    id: ClassVar[str] = "transfer"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("shifts",)
    scores_shifts: ClassVar[bool] = True

    classifier: Classifier = field(default_factory=Linear)

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        self.classifier.check(labels, n_blocks)

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return tuple(self._prefix + name for name in super().metrics())

    @property
    def _prefix(self) -> str:
        return "" if self.classifier.id == Linear.id else f"{self.classifier.id}_"

    def options(self) -> dict[str, Any]:
        """See Protocol."""
        return {"classifier": self.classifier.describe()}

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError for a test set with a class that train has not."""
        train = open_labelled(features, "train")
        splits = sorted((split for split in splits_of(features) if split != "train"), key=lambda s: (s != "test", s))
        tests = {split: in_classes_of(train, open_labelled(features, split), split) for split in splits}
        head = self.classifier.fit(train, device)  # has seen no test set: they were opened only to refuse early
        parts = []
        for split, test in tests.items():
            parts.append({"split": [split] * len(test), **prediction_columns(test, head.predict(test))})
        predictions = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
        about = {"benchmark": benchmark, "details": head.details, "splits": splits}
        return Result(self.score(predictions, about), predictions, about, train.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        scores: list[Score] = []
        for split in about["splits"]:
            suffix = "" if split == "test" else f"_{split}"
            scores += self.accuracy_scores(about["benchmark"], predictions, about["details"], suffix, split=split)
        return [replace(score, metric=self._prefix + score.metric) for score in scores]
