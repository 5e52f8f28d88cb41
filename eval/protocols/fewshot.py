"""Protocol ``fewshot``, version 1: a head fitted on k images a class, or on 1 % and 10 % of train, over several draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int

from strata.curation.errors import ConfigError
from strata.eval.accuracy import LEVEL, N_DRAWS, Estimate
from strata.eval.bootstrap import draw_weights
from strata.eval.features import FeatureFolders
from strata.eval.protocols.base import Protocol, Result, is_correct
from strata.eval.protocols.heads import Classifier, open_labelled, take
from strata.eval.protocols.logreg import LogReg
from strata.eval.scores import Score
from strata.eval.stratify import stratified_sample


@dataclass
class FewShot(Protocol):
    """Mean accuracy over draws of a small training set.

    Source: 1 % and 10 % of the labels: Chen et al. 2020 (SimCLR), section 6; a logistic regression on frozen features for
    them: Assran et al. 2022 (Masked siamese networks), section 5.1; k images a class, mean over draws with an interval:
    Tian et al. 2020 (Rethinking few-shot image classification: a good embedding is all you need?), section 3.

    Nothing is chosen: so few images leave none to choose on, and the rest of train must not be looked at. So the
    classifier should have nothing to choose: by default a logistic regression with one C, fixed for all data sets.

    The 95 % interval is a bootstrap over both the draws and the test images.

    Metrics: ``top1_shot<k>`` and ``top1_share<percent>``; the mean over draws. Details: the accuracy of each draw.

    Args:
        shots: images a class.
        shares: of train, in the proportions of its classes.
        draws: training sets of each size.
        classifier: the protocol that fits the head.
        seed: draw i of a size has seed ``seed + i``.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range, or a class has fewer images than ``shots``.
    """

    id: ClassVar[str] = "fewshot"
    version: ClassVar[int] = 1

    shots: Sequence[int] = (1, 5, 10)
    shares: Sequence[float] = (0.01, 0.1)
    draws: int = 5
    classifier: Classifier = field(default_factory=lambda: LogReg(strengths=(10.0,)))
    seed: int = 0

    def __post_init__(self) -> None:
        self.shots, self.shares = tuple(sorted(set(self.shots))), tuple(sorted(set(self.shares)))
        if not self.shots and not self.shares:
            raise ConfigError("protocol.shots", "neither shots nor shares are given", "give e.g. shots=[1,5]")
        if self.shots and self.shots[0] < 1:
            raise ConfigError("protocol.shots", f"{self.shots[0]} images a class", "use 1 or more")
        if not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("protocol.shares", f"{list(self.shares)}", "use shares between 0 and 1, e.g. [0.01, 0.1]")
        if self.draws < 1:
            raise ConfigError("protocol.draws", f"{self.draws}", "use 1 or more")

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        counts = np.bincount(labels)
        fewest = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
        if self.shots and self.shots[-1] > counts[fewest]:
            problem = f"{self.shots[-1]} images a class are wanted, and class {fewest} has {counts[fewest]}"
            raise ConfigError("protocol.shots", problem, f"use at most {counts[fewest]}, or give shots=[] and shares")
        for _, rows in self._training_sets(labels):
            self.classifier.check(labels[rows], n_blocks)

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return tuple(f"top1_{size}" for size in self._sizes())

    def options(self) -> dict[str, Any]:
        """See Protocol."""
        given = {"shots": list(self.shots), "shares": list(self.shares), "draws": self.draws, "seed": self.seed}
        return {**given, "classifier": self.classifier.describe()}

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol."""
        train = open_labelled(features, "train")
        self.check(train.labels, train.cls.shape[1])
        test = open_labelled(features, "test")
        predictions: dict[str, Any] = {"row": np.arange(len(test)), "id": test.ids, "label": test.labels}
        draw_of: dict[str, int] = dict.fromkeys(self._sizes(), 0)
        for size, rows in self._training_sets(train.labels):
            predicted = self.classifier.fit(take(train, rows), device).predict(test)
            predictions[f"prediction_{size}_draw{draw_of[size]}"] = predicted
            predictions[f"correct_{size}_draw{draw_of[size]}"] = is_correct(test, predicted)
            draw_of[size] += 1
        for size in self._sizes():
            right = [predictions[f"correct_{size}_draw{draw}"] for draw in range(self.draws)]
            predictions[f"correct_{size}"] = np.mean(right, axis=0)
        about = {"benchmark": benchmark, "sizes": list(self._sizes()), "draws": self.draws}
        return Result(self.score(predictions, about), predictions, about, test.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        scores = []
        for size in about["sizes"]:
            columns = [np.asarray(predictions[f"correct_{size}_draw{draw}"]) for draw in range(about["draws"])]
            found, of_draws = over_draws(np.stack(columns))
            recipe = {"kind": "mean", "of": f"correct_{size}"}
            details = {"draws": of_draws}
            scores.append(self.as_score(about["benchmark"], f"top1_{size}", found, details=details, statistic=recipe))
        return scores

    def _sizes(self) -> tuple[str, ...]:
        return tuple(f"shot{k}" for k in self.shots) + tuple(f"share{100 * share:g}" for share in self.shares)

    def _training_sets(self, labels: Int[np.ndarray, " n"]) -> Iterator[tuple[str, Int[np.ndarray, " m"]]]:
        """Name of the size and rows, draw by draw."""
        sizes = self._sizes()
        for draw in range(self.draws):
            for name, k in zip(sizes, self.shots, strict=False):
                yield name, k_of_each(labels, k, self.seed + draw)
            for name, share in zip(sizes[len(self.shots) :], self.shares, strict=True):
                yield name, stratified_sample(labels, max(1, round(share * len(labels))), self.seed + draw)


def k_of_each(labels: Int[np.ndarray, " n"], k: int, seed: int) -> Int[np.ndarray, " m"]:
    """k random rows of every class that occurs, sorted."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < k])


def over_draws(correct: Bool[np.ndarray, "D n"], seed: int = 0) -> tuple[Estimate, list[float]]:
    """Mean over draws and images, its interval by a bootstrap over both, and the mean of each draw."""
    n_draws, n = correct.shape
    rng = np.random.default_rng(seed)
    means = []
    for weights in draw_weights(n, seed):  # b n
        of_draws = correct @ weights.T / n  # D b
        picked = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=len(weights))  # b D
        means.append((picked * of_draws.T).sum(axis=1) / n_draws)
    low, high = np.quantile(np.concatenate(means)[:N_DRAWS], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(correct.mean()), float(low), float(high), n), correct.mean(axis=1).tolist()
