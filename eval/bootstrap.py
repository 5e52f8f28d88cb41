"""Percentile bootstrap over test examples, vectorized and seeded, of anything that is a function of sums over examples.

Accuracy, mean over classes, mIoU, RMSE and gaps between groups are all ``finish(sum of numerators, sum of denominators)``
by segment (a class, a group). A draw is then a vector of weights (how often each example was drawn), and all draws are
two products with sparse matrices. Two backbones that are given the same draws are compared in pairs.

Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), sections 13.3 (percentile interval) and 8.3 (pairs).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from strata.curation.errors import DataError
from strata.eval.accuracy import LEVEL, N_DRAWS, Estimate

Finish = Callable[[Float[np.ndarray, "b S"], Float[np.ndarray, "b S"]], Float[np.ndarray, " b"]]


@dataclass(frozen=True)
class Statistic:
    """A function of sums over examples.

    Attributes:
        numerator: what each example adds to each of S segments.
        denominator: likewise.
        finish: sums of B draws -> the B values. A segment that a draw misses has denominator 0.
        n: what ``Estimate.n`` should say.
    """

    numerator: sparse.csr_matrix
    denominator: sparse.csr_matrix
    finish: Finish
    n: int

    @property
    def n_examples(self) -> int:
        """Examples that are drawn from."""
        return int(self.numerator.shape[0])

    def of(self, weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        """The value under weights of the examples."""
        return self.finish(np.asarray((self.numerator.T @ weights.T).T), np.asarray((self.denominator.T @ weights.T).T))

    @property
    def value(self) -> float:
        """On the examples as they are."""
        return float(self.of(np.ones((1, self.n_examples)))[0])


def mean_over_segments(num: Float[np.ndarray, "b S"], den: Float[np.ndarray, "b S"]) -> Float[np.ndarray, " b"]:
    """Mean of num / den over the segments that were drawn."""
    return (num / np.maximum(den, np.finfo(float).tiny)).sum(axis=1) / np.maximum((den > 0).sum(axis=1), 1)


def root_of_ratio(num: Float[np.ndarray, "b S"], den: Float[np.ndarray, "b S"]) -> Float[np.ndarray, " b"]:
    """Square root of the whole ratio."""
    return np.sqrt(num.sum(axis=1) / den.sum(axis=1))


def explained(num: Float[np.ndarray, "b 3"], den: Float[np.ndarray, "b 1"]) -> Float[np.ndarray, " b"]:
    """R2: 1 - squared error / squared deviation of the truth from its mean; 0 where all truths of a draw are equal.

    ``num``: sums of squared errors, of the truth and of its square; ``den``: how many values these are.
    """
    error, truth, square = num.T
    deviation = square - truth**2 / den[:, 0]
    return np.where(deviation > 0, 1 - error / np.where(deviation > 0, deviation, 1), 0.0)


def relative_gap(num: Float[np.ndarray, "b S"], den: Float[np.ndarray, "b S"]) -> Float[np.ndarray, " b"]:
    """(best - worst) / best over segments, which reproduces "rel. gap" of the paper's Table 5c; 0 if the best is 0."""
    rate = num / np.maximum(den, np.finfo(float).tiny)
    best = np.where(den > 0, rate, -np.inf).max(axis=1)
    worst = np.where(den > 0, rate, np.inf).min(axis=1)
    return np.where(best > 0, (best - worst) / np.where(best > 0, best, 1), 0.0)


def mean_of(values: Any) -> Statistic:
    """Mean of a value of each example."""
    column = np.asarray(values, np.float64)[:, None]
    return Statistic(
        sparse.csr_matrix(column), sparse.csr_matrix(np.ones_like(column)), mean_over_segments, len(column)
    )


def by_segment(values: Any, segments: Int[np.ndarray, " n"], finish: Finish = mean_over_segments) -> Statistic:
    """Mean within each segment (each example in one), then ``finish``; ``n`` counts the segments."""
    rows, (present, columns) = np.arange(len(segments)), np.unique(segments, return_inverse=True)
    shape = (len(segments), len(present))
    num = sparse.csr_matrix((np.asarray(values, np.float64), (rows, columns)), shape)
    den = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    return Statistic(num, den, finish, len(present))


def ratio_of_sums(num: Any, den: Any, finish: Finish = mean_over_segments) -> Statistic:
    """Ratios of sums over examples, e.g. intersection and union by class [n, S] (mIoU), squared error and pixels [n]."""
    matrices = [np.asarray(part, np.float64).reshape(len(part), -1) for part in (num, den)]
    return Statistic(sparse.csr_matrix(matrices[0]), sparse.csr_matrix(matrices[1]), finish, len(matrices[0]))


def statistic_of(columns: Mapping[str, Any], recipe: Mapping[str, str]) -> Statistic:
    """A statistic from the columns of ``predictions.parquet``, as ``Score.statistic`` tells it.

    Recipes: ``{"kind": "mean", "of": COLUMN}``; ``{"kind": "mean_by", "of", "by"}``, mean over the values of ``by``;
    ``{"kind": "gap", "of", "by"}``, relative gap between them; ``{"kind": "ratio", "of", "over"}`` of two columns (of
    numbers, or of lists with one number for each class: then the mean ratio over classes); ``{"kind": "root_ratio", "of",
    "over"}``. ``"where": COLUMN`` keeps the examples whose value there is ``"is"``.

    Raises:
        DataError: the recipe or a column is unknown.
    """
    need = [recipe[name] for name in ("of", "by", "over", "truth", "square", "where") if name in recipe]
    missing = [name for name in need if name not in columns]
    if missing:
        raise DataError(f"predictions.parquet has no column {missing[0]!r}; evaluate again with this version")
    keep = chosen_rows(columns, recipe)

    def column(name: str) -> np.ndarray:
        return _matrix(columns[recipe[name]])[keep]

    match recipe.get("kind"):
        case "mean":
            return mean_of(column("of"))
        case "mean_by":
            return by_segment(column("of"), column("by"))
        case "gap":
            return by_segment(column("of"), column("by"), relative_gap)
        case "ratio":
            return ratio_of_sums(column("of"), column("over"))
        case "root_ratio":
            return ratio_of_sums(column("of"), column("over"), root_of_ratio)
        case "r2":
            parts = np.stack([column(name) for name in ("of", "truth", "square")], axis=1)
            return ratio_of_sums(parts, column("over"), explained)
    raise DataError(f"a score is computed by {recipe.get('kind')!r}, which this version does not know")


def chosen_rows(columns: Mapping[str, Any], recipe: Mapping[str, str]) -> np.ndarray:
    """The rows of the predictions that a recipe is about."""
    if "where" not in recipe:
        return np.arange(len(columns["row"]))
    return np.flatnonzero(np.asarray(columns[recipe["where"]]).astype(str) == recipe["is"])


def bootstrap(statistic: Statistic, seed: int = 0, n_draws: int = N_DRAWS) -> Estimate:
    """Value and 95 % percentile interval."""
    draws = np.concatenate([statistic.of(weights) for weights in draw_weights(statistic.n_examples, seed, n_draws)])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(statistic.value, float(low), float(high), statistic.n)


def paired_bootstrap(a: Statistic, b: Statistic, seed: int = 0, n_draws: int = N_DRAWS) -> Estimate:
    """Of a - b, both on the same draws of the same examples. ``a`` and ``b`` must list them in one order."""
    if a.n_examples != b.n_examples:
        raise DataError(f"{a.n_examples} and {b.n_examples} examples cannot be compared in pairs")
    draws = np.concatenate([a.of(weights) - b.of(weights) for weights in draw_weights(a.n_examples, seed, n_draws)])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(a.value - b.value, float(low), float(high), a.n)


def draw_weights(n: int, seed: int, n_draws: int = N_DRAWS) -> Iterator[Float[np.ndarray, "b n"]]:
    """How often each of n examples is drawn in n draws with replacement, some bootstrap draws at a time."""
    rng = np.random.default_rng(seed)
    at_once = max(1, 4_000_000 // max(n, 1))  # bounds memory at 32 MB
    for start in range(0, n_draws, at_once):
        size = min(at_once, n_draws - start)
        picked = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(picked.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _matrix(column: Sequence[Any] | np.ndarray) -> np.ndarray:
    """A column of numbers [n], or of equally long lists [n, S]."""
    array = np.asarray(column)
    return np.stack([np.asarray(row) for row in column]) if array.dtype == object else array
