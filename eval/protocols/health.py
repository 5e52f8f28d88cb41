"""Protocol ``health``, version 1: label-free measures of the features of a split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from strata.curation.errors import ConfigError, DataError
from strata.eval.accuracy import Estimate
from strata.eval.bootstrap import draw_weights
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result
from strata.eval.scores import Score
from strata.eval.spectrum import alpha_req, lidar, rankme, second_moment

VIEW_OF = "view_of"  # column: which image each item is an augmented view of


@dataclass
class Health(Protocol):
    """RankMe, alpha-ReQ and mean cosine of the class tokens of the last block; LiDAR where the items are views.

    Source: Garrido et al. 2023 (RankMe; 25,600 images are enough for it, section 4), Agrawal et al. 2022 (alpha-ReQ),
    Thilak et al. 2024 (LiDAR: needs several augmented views of each image, which a split has if its items have the
    column "view_of"). A collapsed network has RankMe and mean cosine near 1.

    The interval is the value plus and minus 1.96 bootstrap standard errors over images. It is not a percentile interval:
    a draw with replacement holds each image several times, which lowers every measure of rank.

    Metrics: ``rankme``, ``alpha_req``, ``mean_cosine``, and ``lidar`` where possible.

    Args:
        split: whose features.
        max_rows: take at most so many of them, at random.
        n_draws: of the bootstrap.
        seed: of both.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "health"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("classification", "multilabel", "segmentation", "depth")

    split: str = "train"
    max_rows: int = 25600
    n_draws: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_rows < 2:
            raise ConfigError("protocol.max_rows", f"{self.max_rows}", "use 2 or more, e.g. 25600")
        if self.n_draws < 10:
            raise ConfigError("protocol.n_draws", f"{self.n_draws}", "use 10 or more")

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return ("rankme", "alpha_req", "mean_cosine")

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError if there are fewer than two items."""
        found = Features.open(features, self.split)
        if len(found) < 2:
            raise DataError(f"features of {self.split}: {len(found)} items have no spectrum; give two or more")
        rows = np.arange(len(found))
        if len(rows) > self.max_rows:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, self.max_rows, replace=False))
        z = np.asarray(found.cls[rows, -1], np.float32)
        scores = [self.as_score(benchmark, name, self._estimate(z, f)) for name, f in _MEASURES.items()]
        if VIEW_OF in found.columns:
            scores.append(self._lidar(benchmark, z, np.unique(found.columns[VIEW_OF], return_inverse=True)[1][rows]))
        predictions: dict[str, Any] = {"row": rows, "id": [found.ids[row] for row in rows]}
        return Result(scores, predictions | {"norm": np.linalg.norm(z.astype(np.float64), axis=1)})

    def _estimate(self, z: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], float]) -> Estimate:
        """A function of the features and how often each counts."""
        weights = (row for some in draw_weights(len(z), self.seed, self.n_draws) for row in some)
        error = 1.96 * float(np.std([measure(z, drawn) for drawn in weights], ddof=1))
        value = measure(z, np.ones(len(z)))
        return Estimate(value, value - error, value + error, len(z))

    def _lidar(self, benchmark: str, z: np.ndarray, objects: np.ndarray) -> Score:
        """Its bootstrap draws images, each with all of its views."""
        rows_of = np.split(np.argsort(objects, kind="stable"), np.cumsum(np.bincount(objects))[:-1])
        rows_of = [rows for rows in rows_of if len(rows)]
        if max(len(rows) for rows in rows_of) < 2:
            raise DataError(f"features of {self.split}: no image has two views; LiDAR needs them")
        rng, values = np.random.default_rng(self.seed), []
        for _ in range(self.n_draws):
            drawn = rng.integers(0, len(rows_of), len(rows_of))
            of = np.repeat(np.arange(len(drawn)), [len(rows_of[i]) for i in drawn])
            values.append(lidar(z[np.concatenate([rows_of[i] for i in drawn])], of))
        value, error = lidar(z, objects), 1.96 * float(np.std(values, ddof=1))
        return self.as_score(benchmark, "lidar", Estimate(value, value - error, value + error, len(rows_of)))


def _rankme(z: np.ndarray, weights: np.ndarray) -> float:
    return rankme(second_moment(z, weights))


def _alpha_req(z: np.ndarray, weights: np.ndarray) -> float:
    mean = weights @ z.astype(np.float64) / weights.sum()
    return alpha_req(second_moment(z, weights) / weights.sum() - np.outer(mean, mean))


def _mean_cosine(z: np.ndarray, weights: np.ndarray) -> float:
    """Of two items drawn independently: the squared length of the mean unit vector."""
    unit = z.astype(np.float64) / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), np.finfo(float).tiny)
    mean = weights @ unit / weights.sum()
    return float(mean @ mean)


_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rankme": _rankme,
    "alpha_req": _alpha_req,
    "mean_cosine": _mean_cosine,
}
