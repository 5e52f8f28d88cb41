"""Protocol ``knn``, version 1: weighted k-nearest-neighbor vote on frozen class tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.eval.features import FeatureFolders, Features
from strata.eval.nearest import nearest_neighbors
from strata.eval.protocols.base import Protocol, Result, prediction_columns


@dataclass
class KNN(Protocol):
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

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a ConfigError if the headline k is larger than the training set."""
        train, test = Features.open(features, "train"), Features.open(features, "test")
        self.check(train.labels, train.cls.shape[1])
        usable = [k for k in self.k if k <= len(train)]
        predicted = self._predict(train, test.cls[:, -1], usable, device)
        details: dict[str, Any] = {"temperature": self.temperature, "n_train": len(train)}
        dropped = [k for k in self.k if k not in usable]
        if dropped:
            details["k_dropped"] = {"k": dropped, "reason": f"more than the {len(train)} training images"}
        headline = predicted[self.headline_k]
        scores = self.accuracy_scores(benchmark, test.labels, headline, {"k": self.headline_k, **details})
        for k in usable:
            scores += self.accuracy_scores(benchmark, test.labels, predicted[k], {"k": k, **details}, f"_k{k}")
        columns = prediction_columns(test, headline) | {f"prediction_k{k}": predicted[k] for k in usable}
        return Result(scores, columns)

    def _predict(
        self, train: Features, queries: Float[np.ndarray, "n d"], ks: Sequence[int], device: torch.device
    ) -> dict[int, Int[np.ndarray, " n"]]:
        similarity, rows = nearest_neighbors(queries, train.cls[:, -1], max(ks), device=device)
        labels = torch.from_numpy(np.array(train.labels))[rows]
        tiles = zip(similarity.split(1024), labels.split(1024), strict=True)  # votes of a tile: 1024 x classes
        voted = [vote(s, neighbors, train.n_classes, self.temperature, ks) for s, neighbors in tiles]
        return {k: torch.cat([winners[k] for winners in voted]).numpy() for k in ks}


def vote(
    similarity: Float[Tensor, "q m"], labels: Int[Tensor, "q m"], n_classes: int, temperature: float, ks: Sequence[int]
) -> dict[int, Int[Tensor, " q"]]:
    """The class with the largest sum of weights among the k nearest, for each k; equal sums go to the lower class id.

    Args:
        similarity: of the neighbors, nearest first.
        labels: of the neighbors.
        n_classes: number of classes.
        temperature: of the softmax. It is taken over all m neighbors: a common factor, which no vote depends on.
        ks: each at most m.
    """
    weights = (similarity.double() / temperature).softmax(dim=1)
    votes = torch.zeros(len(similarity), n_classes, dtype=torch.float64)
    winners, counted = {}, 0
    for k in sorted(ks):
        votes.scatter_add_(1, labels[:, counted:k], weights[:, counted:k])
        winners[k], counted = votes.argmax(dim=1), k
    return winners
