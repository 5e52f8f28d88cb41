"""Two backbones on one benchmark, from stored predictions: paired bootstrap of the difference, and McNemar's test."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.artifact import read_manifest
from strata.curation.errors import DataError
from strata.eval.bootstrap import chosen_rows, paired_bootstrap, statistic_of
from strata.eval.scores import Score, read_predictions, read_scores


@dataclass(frozen=True)
class Difference:
    """One metric of A and B.

    Attributes:
        protocol: id and version, e.g. "knn-v1".
        benchmark: of both.
        metric: of both.
        a: value of A.
        b: value of B.
        difference: a - b.
        ci_low: lower end of its 95 % interval, by bootstrap over the test images that both have.
        ci_high: upper end.
        n: as in the scores.
        only_a: test images that A alone has right; None where the metric is not a mean over right and wrong.
        only_b: test images that B alone has right.
        p_value: of McNemar's exact test that A and B are right equally often.
    """

    protocol: str
    benchmark: str
    metric: str
    a: float
    b: float
    difference: float
    ci_low: float
    ci_high: float
    n: int
    only_a: int | None
    only_b: int | None
    p_value: float | None

    @property
    def differs(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return not self.ci_low <= 0 <= self.ci_high

    def record(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def compare(a: str | Path, b: str | Path, seed: int = 0) -> list[Difference]:
    """Compare two scores folders of the same protocol, version and benchmark. Nothing is computed again but metrics.

    Args:
        a: made by ``Protocol.run``.
        b: likewise; for another backbone, on the same test images.
        seed: of the bootstrap. Both see the same draws.

    Raises:
        DataError: they are not of one protocol, version and benchmark, not of the same images and labels, or too old to
            say how a metric comes from their predictions.
    """
    about_a, about_b = (read_manifest(path, "scores") for path in (a, b))
    for what, found in {
        "protocol": [f"{about['protocol']['id']}-v{about['protocol']['version']}" for about in (about_a, about_b)],
        "benchmark": [about["benchmark"] for about in (about_a, about_b)],
    }.items():
        if found[0] != found[1]:
            raise DataError(f"{a} and {b} are not of one {what}: {found[0]} and {found[1]}; compare like with like")
    columns_a, columns_b = read_predictions(a), read_predictions(b)
    _check_same_images(columns_a, columns_b, a, b)
    scores_b = {score.metric: score for score in read_scores(b)}
    shared = [score for score in read_scores(a) if score.statistic and score.metric in scores_b]
    if not shared:
        raise DataError(f"no metric of {a} and {b} says how it comes from the predictions; evaluate again")
    return [_difference(score, scores_b[score.metric], columns_a, columns_b, seed) for score in shared]


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value: of the images that one alone has right, each has as often as the other.

    Source: McNemar 1947; exact binomial form, as in Dietterich 1998 (Approximate statistical tests), section 3.1.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def markdown(differences: list[Difference], a: str, b: str) -> str:
    """A table; values that are fractions in percent."""
    lines = [
        f"| protocol | benchmark | metric | {a} | {b} | difference | 95 % interval | only {a} | only {b} | McNemar p |",
        "|:--|:--|:--|--:|--:|--:|:--|--:|--:|--:|",
    ]
    for d in differences:
        numbers = [f"{100 * value:.2f}" for value in (d.a, d.b, d.difference, d.ci_low, d.ci_high)]
        discordant = ["–" if count is None else str(count) for count in (d.only_a, d.only_b)]
        p = "–" if d.p_value is None else f"{d.p_value:.2g}"
        cells = [d.protocol, d.benchmark, d.metric, *numbers[:3], f"[{numbers[3]}, {numbers[4]}]", *discordant, p]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(a: Score, b: Score, of_a: Mapping[str, Any], of_b: Mapping[str, Any], seed: int) -> Difference:
    if a.statistic != b.statistic:
        raise DataError(f"{a.metric} is computed as {a.statistic} and {b.statistic}; evaluate both with one version")
    found = paired_bootstrap(statistic_of(of_a, a.statistic), statistic_of(of_b, b.statistic), seed)
    only_a = only_b = p_value = None
    if a.statistic["kind"] == "mean":
        rows = chosen_rows(of_a, a.statistic)
        right_a, right_b = (np.asarray(columns[a.statistic["of"]])[rows] for columns in (of_a, of_b))
        if right_a.dtype == right_b.dtype == bool:
            only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
            p_value = mcnemar(only_a, only_b)
    ends = (found.low, found.high)
    name = f"{a.protocol}-v{a.version}"
    return Difference(name, a.benchmark, a.metric, a.value, b.value, found.value, *ends, a.n, only_a, only_b, p_value)


def _check_same_images(of_a: Mapping[str, Any], of_b: Mapping[str, Any], a: str | Path, b: str | Path) -> None:
    for what in ("id", "split", "label"):
        if (what in of_a) != (what in of_b) or (what in of_a and not np.array_equal(of_a[what], of_b[what])):
            raise DataError(f"{a} and {b} do not have the same test images in one order (column {what!r} differs)")
