"""Protocol ``knn``, version 1: weighted k-nearest-neighbor vote on frozen class tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.eval.features import FeatureFolders, Features
from strata.eval.nearest import nearest_neighbors
from strata.eval.protocols.base import Result, is_correct, prediction_columns
from strata.eval.protocols.heads import Classifier, Head, among, open_labelled
from strata.eval.scores import Score


@dataclass
class KNN(Classifier):
    """Cosine k-NN on the class token of the last block; neighbors vote with weight softmax(similarity / temperature).

    Source: facebookresearch/dinov2#dinov2/eval/knn.py and its defaults (paper section 4, "knn" columns). Nothing is
    chosen: the headline k is an option, and the score of every k is reported.

    Metrics: ``top1`` and ``mean_per_class`` at the headline k, and the same with ``_k<k>`` for every k.

    Args:
        k: numbers of neighbors to score. Those above the number of training images are left out, and the scores say so.
        temperature: of the softmax.
        headline_k: one of ``k``; the one that tables print.

    Raises:
        ConfigError: ``protocol.k``, ``protocol.temperature`` or ``protocol.headline_k`` is out of range.
    """

    id: ClassVar[str] = "knn"
    version: ClassVar[int] = 1

    k: Sequence[int] = (10, 20, 100, 200)
    temperature: float = 0.07
    headline_k: int = 20

    def __post_init__(self) -> None:
        self.k = tuple(sorted({int(k) for k in self.k}))
        if not self.k or self.k[0] < 1:
            raise ConfigError("protocol.k", f"{list(self.k)}", "give one or more numbers of neighbors, each 1 or more")
        if not self.temperature > 0:
            raise ConfigError("protocol.temperature", f"{self.temperature}", "use a number above 0, e.g. 0.07")
        if self.headline_k not in self.k:
            raise ConfigError("protocol.headline_k", f"{self.headline_k} is not in k={list(self.k)}", "add it to k")

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        if self.headline_k > len(labels):
            problem = f"{self.headline_k} neighbors, but train has only {len(labels)} images"
            raise ConfigError("protocol.headline_k", problem, f"use at most {len(labels)}, also in k")

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        measured = super().metrics()
        return measured + tuple(f"{name}_k{k}" for k in self.k for name in measured)

    def fit(self, train: Features, device: torch.device | str = "cpu") -> "Neighbors":
        """Nothing is fitted: the training set is the head."""
        self.check(train.labels, train.cls.shape[1])
        usable = [k for k in self.k if k <= len(train)]
        details: dict[str, Any] = {"temperature": self.temperature, "n_train": len(train)}
        dropped = [k for k in self.k if k not in usable]
        if dropped:
            details["k_dropped"] = {"k": dropped, "reason": f"more than the {len(train)} training images"}
        return Neighbors(train, usable, self.headline_k, self.temperature, torch.device(device), details)

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a ConfigError if the headline k is larger than the training set."""
        head = self.fit(open_labelled(features, "train"), device)
        test = open_labelled(features, "test")
        predicted = head.predict_each(test)
        predictions = prediction_columns(test, predicted[self.headline_k])
        for k, found in predicted.items():
            predictions |= {f"prediction_k{k}": found, f"correct_k{k}": is_correct(test, found)}
        about = {"benchmark": benchmark, "details": head.details, "headline_k": self.headline_k, "k": list(predicted)}
        return Result(self.score(predictions, about), predictions, about, test.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        name, details = about["benchmark"], about["details"]
        scores = self.accuracy_scores(name, predictions, {"k": about["headline_k"], **details})
        for k in about["k"]:
            scores += self.accuracy_scores(name, predictions, {"k": k, **details}, f"_k{k}", f"correct_k{k}")
        return scores


@dataclass
class Neighbors(Head):
    """The training set, ready to vote with the headline k."""

    train: Features
    ks: Sequence[int]
    headline_k: int
    temperature: float
    device: torch.device
    details: dict[str, Any]

    def logits(self, features: Features, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b C"]:
        """Sums of weights at the headline k."""
        similarity, labels = self._nearest(features.cls[rows, -1], self.headline_k)
        return votes(similarity, labels, self.train.n_classes, self.temperature, [self.headline_k])[self.headline_k]

    def predict_each(self, features: Features) -> dict[int, Int[np.ndarray, " n"]]:
        """The class of each item, for every k."""
        similarity, labels = self._nearest(features.cls[:, -1], max(self.ks))
        tiles = zip(similarity.split(1024), labels.split(1024), strict=True)  # votes of a tile: 1024 x classes
        n, candidates = self.train.n_classes, features.candidates
        winners = [vote(s, neighbors, n, self.temperature, self.ks, candidates) for s, neighbors in tiles]
        return {k: torch.cat([of_tile[k] for of_tile in winners]).numpy() for k in self.ks}

    def _nearest(self, queries: Float[np.ndarray, "n d"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        similarity, rows = nearest_neighbors(queries, self.train.cls[:, -1], k, device=self.device)
        return similarity, torch.from_numpy(np.array(self.train.labels))[rows]


def vote(
    similarity: Float[Tensor, "q m"],
    labels: Int[Tensor, "q m"],
    n_classes: int,
    temperature: float,
    ks: Sequence[int],
    candidates: Int[np.ndarray, " c"] | None = None,
) -> dict[int, Int[Tensor, " q"]]:
    """The class with the largest sum of weights among the k nearest, for each k; equal sums go to the lower class id."""
    found = votes(similarity, labels, n_classes, temperature, ks)
    return {k: among(sums, candidates).argmax(dim=1) for k, sums in found.items()}


def votes(
    similarity: Float[Tensor, "q m"], labels: Int[Tensor, "q m"], n_classes: int, temperature: float, ks: Sequence[int]
) -> dict[int, Float[Tensor, "q C"]]:
    """Sums of weights of the k nearest by class, for each k.

    Args:
        similarity: of the neighbors, nearest first.
        labels: of the neighbors.
        n_classes: number of classes.
        temperature: of the softmax. It is taken over all m neighbors: a common factor, which no vote depends on.
        ks: each at most m.
    """
    weights = (similarity.double() / temperature).softmax(dim=1)
    sums = torch.zeros(len(similarity), n_classes, dtype=torch.float64)
    found, counted = {}, 0
    for k in sorted(ks):
        sums.scatter_add_(1, labels[:, counted:k], weights[:, counted:k])
        found[k], counted = sums.clone(), k
    return found
