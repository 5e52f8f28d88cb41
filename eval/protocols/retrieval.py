"""Protocol ``retrieval``, version 1: revisited Oxford and Paris by cosine similarity, mean average precision."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result
from strata.eval.scores import Score
from strata.eval.similarity import rank_all

# Difficulty: what counts as right, and what is taken out of the ranking.
SETUPS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


@dataclass
class Retrieval(Protocol):
    """Rank the database by cosine similarity to each query; average precision with junk images taken out.

    Source: Radenovic et al., arXiv:1803.11285, section 3, and its code, filipradenovic/revisitop#python/evaluate.py: easy,
    medium and hard differ in what counts and what is junk; average precision is the area under the precision-recall
    steps by trapezoids; a query without anything to find does not count. The paper (section 4.1) prints Hard. Nothing is
    fitted or chosen.

    Metrics: ``map_easy``, ``map_medium``, ``map_hard``; a difficulty that no query has is left out.

    Args:
        token: "cls" (as the paper), "avg" (mean patch token) or "both", concatenated; of the last block.

    Raises:
        ConfigError: ``protocol.token`` is unknown.
    """

    id: ClassVar[str] = "retrieval"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)

    token: Literal["cls", "avg", "both"] = "cls"

    def __post_init__(self) -> None:
        if self.token not in ("cls", "avg", "both"):
            raise ConfigError("protocol.token", f"{self.token!r} is unknown", "use cls, avg or both")

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return tuple(f"map_{setup}" for setup in SETUPS)

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError if the queries name rows that the database has not, or nothing is relevant."""
        queries, database = Features.open(features, "queries"), Features.open(features, "database")
        known = {kind: _rows(queries, kind, len(database)) for kind in ("easy", "hard", "junk")}
        columns: dict[str, Any] = {"row": np.arange(len(queries)), "id": queries.ids}
        precision = {setup: np.full(len(queries), np.nan) for setup in SETUPS}
        first = np.empty(len(queries), np.int64)
        for query, ranked in enumerate(rank_all(self._input(queries), self._input(database), device)):
            first[query] = ranked[0]
            for setup, (right, junk) in SETUPS.items():
                positive = np.concatenate([known[kind][query] for kind in right])
                out = np.concatenate([known[kind][query] for kind in junk])
                precision[setup][query] = average_precision(ranked, positive, out)
        columns["nearest"] = [database.ids[row] for row in first]
        scores = []
        for setup, values in precision.items():
            columns[f"ap_{setup}"], columns[f"has_{setup}"] = np.nan_to_num(values), ~np.isnan(values)
            if not np.isnan(values).all():
                recipe = {"kind": "mean", "of": f"ap_{setup}", "where": f"has_{setup}", "is": "True"}
                found = bootstrap(statistic_of(columns, recipe))
                details = {"token": self.token, "n_database": len(database)}
                numbers = (found.value, found.n, found.low, found.high)
                scores.append(Score(self.id, self.version, benchmark, f"map_{setup}", *numbers, details, recipe))
        if not scores:
            raise DataError(f"no query of {benchmark} has anything to find; check its easy and hard columns")
        return Result(scores, columns)

    def _input(self, split: Features) -> Float[np.ndarray, "n d"]:
        parts = {"cls": [split.cls], "avg": [split.avg], "both": [split.cls, split.avg]}[self.token]
        return np.concatenate([part[:, -1] for part in parts], axis=1)


def average_precision(
    ranked: Int[np.ndarray, " m"], positive: Int[np.ndarray, " p"], junk: Int[np.ndarray, " j"]
) -> float:
    """Area under the precision-recall steps of one query, by trapezoids; NaN if there is nothing to find.

    Args:
        ranked: rows of the database, best first.
        positive: rows that are right.
        junk: rows taken out of the ranking before anything is counted.
    """
    positive = np.unique(positive)
    if not len(positive):
        return float("nan")
    kept = ranked[~np.isin(ranked, junk)]
    places = np.flatnonzero(np.isin(kept, positive))  # 0 = first
    found = np.arange(len(places))
    before = np.where(places == 0, 1.0, found / np.maximum(places, 1))
    after = (found + 1) / (places + 1)
    return float(((before + after) / 2).sum() / len(positive))


def _rows(queries: Features, kind: str, n_database: int) -> list[Int[np.ndarray, " r"]]:
    if kind not in queries.columns:
        raise DataError(f"the features of the queries have no column {kind!r}; use a retrieval benchmark")
    rows = [np.asarray(found, np.int64) for found in queries.columns[kind]]
    if any(len(found) and (found.min() < 0 or found.max() >= n_database) for found in rows):
        raise DataError(
            f"a query has {kind} rows outside the database of {n_database}; extract both from one benchmark"
        )
    return rows
