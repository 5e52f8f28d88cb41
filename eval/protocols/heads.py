"""What a classifier on frozen features is: fitted on a training split, it predicts the classes of any other one."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.errors import DataError
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result, prediction_columns
from strata.eval.scores import Score


class Head(ABC):
    """A fitted classifier.

    Attributes:
        details: what was used and chosen; JSON-able.
    """

    details: dict[str, Any]

    @abstractmethod
    def logits(self, features: Features, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b C"]:
        """A number for each class, the larger the likelier; -inf for a class that it cannot predict."""

    def predict(self, features: Features, rows_at_once: int = 4096) -> Int[np.ndarray, " n"]:
        """The class of each item, among ``features.candidates`` if the set names them; equals: the lower class id.

        Restricting the argmax to the classes of a test set is the protocol of ImageNet-A and -R (Hendrycks et al. 2021).
        """
        found = []
        for start in range(0, len(features), rows_at_once):
            logits = self.logits(features, np.arange(start, min(start + rows_at_once, len(features))))
            found.append(among(logits, features.candidates).argmax(dim=1).cpu().numpy())
        return np.concatenate(found)


class Classifier(Protocol):
    """A protocol that fits a head on train and scores its accuracy on test; others reuse its head."""

    @abstractmethod
    def fit(self, train: Features, device: torch.device | str = "cpu") -> Head:
        """Choose what is to be chosen on a held-out part of ``train``, and fit."""

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol."""
        head = self.fit(open_labelled(features, "train"), device)
        test = open_labelled(features, "test")  # opened when nothing is left to choose
        predictions = prediction_columns(test, head.predict(test))
        about = {"benchmark": benchmark, "details": head.details}
        return Result(self.score(predictions, about), predictions, about, test.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        return self.accuracy_scores(about["benchmark"], predictions, about["details"])


def among(logits: Float[Tensor, "b C"], candidates: Int[np.ndarray, " c"] | None) -> Float[Tensor, "b C"]:
    """The logits with -inf for every class that is not a candidate; None = all are."""
    if candidates is None:
        return logits
    barred = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    barred[torch.from_numpy(np.asarray(candidates)).to(logits.device)] = False
    return logits.masked_fill(barred, -torch.inf)


def open_labelled(features: FeatureFolders, split: str) -> Features:
    """Open a split that must have a label in range for every item.

    Raises:
        DataError: it has no items, no classes, or labels outside them.
    """
    found = Features.open(features, split)
    if not len(found):
        raise DataError(f"features of {split}: there are no items; check the pool of the benchmark")
    if not found.n_classes:
        raise DataError(f"features of {split}: they have no classes; use a benchmark with labels")
    bad = np.flatnonzero((found.labels < 0) | (found.labels >= found.n_classes))
    if len(bad):
        problem = (
            f"label {found.labels[bad[0]]} of row {bad[0]} ({found.ids[bad[0]]!r}) is none of {found.n_classes} classes"
        )
        raise DataError(f"features of {split}: {problem}; correct the labels of the pool")
    outside = [] if found.candidates is None else found.candidates[found.candidates >= found.n_classes].tolist()
    if outside:
        problem = f"candidate {outside[0]} is none of {found.n_classes} classes"
        raise DataError(f"features of {split}: {problem}; correct the class map of the pool")
    return found


def take(features: Features, rows: Int[np.ndarray, " m"]) -> Features:
    """Some rows of a split, in memory."""
    return dataclasses.replace(
        features,
        cls=features.cls[rows],
        avg=features.avg[rows],
        labels=features.labels[rows],
        ids=[features.ids[row] for row in rows],
        patches=None if features.patches is None else features.patches[rows],
        columns={name: [values[row] for row in rows] for name, values in features.columns.items()},
        targets=None,
    )
