"""Protocol ``fairness``, version 1: accuracy by group of the test images, and the relative gap between groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from strata.curation.errors import DataError
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import GROUP, FeatureFolders
from strata.eval.protocols.base import Protocol, Result, prediction_columns
from strata.eval.protocols.heads import Classifier, open_labelled
from strata.eval.protocols.linear import Linear
from strata.eval.scores import Score


@dataclass
class Fairness(Protocol):
    """Top-1 of each group, and (best - worst) / best over the groups of a grouping.

    Source: paper Table 5c (Dollar Street by income and by region); the relative gap is that of its columns "gap", which
    (max - min) / max reproduces in all ten entries. Dollar Street: Rojas et al. 2022; the protocol of accuracy by group
    on frozen features: Goyal et al. 2022, Fairness indicators for systematic assessments of visual feature extractors.

    Metrics: ``top1``, ``mean_per_class``, and for every grouping ``gap_<grouping>`` and ``top1_<grouping>_<group>``.

    Args:
        classifier: the protocol whose head predicts.
    """

    id: ClassVar[str] = "fairness"
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("groups",)

    classifier: Classifier = field(default_factory=Linear)

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        self.classifier.check(labels, n_blocks)

    def options(self) -> dict[str, Any]:
        """See Protocol."""
        return {"classifier": self.classifier.describe()}

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError if the test images have no groups, some have none, or all have the same."""
        test = open_labelled(features, "test")
        if not test.groups:
            raise DataError("features of test: no groups are known of its images; name them in the benchmark's groups")
        for grouping, values in test.groups.items():
            missing = [row for row, value in enumerate(values) if value in (None, "")]
            if missing:
                problem = f"{len(missing)} images have no {grouping}, first row {missing[0]}"
                raise DataError(f"features of test: {problem}; leave them out of the pool")
            if len(set(values)) < 2:
                raise DataError(f"features of test: all images have the same {grouping}; compare two groups or more")
        head = self.classifier.fit(open_labelled(features, "train"), device)
        predictions = prediction_columns(test, head.predict(test))
        predictions |= {GROUP + grouping: [str(v) for v in values] for grouping, values in test.groups.items()}
        about = {"benchmark": benchmark, "details": head.details, "groupings": list(test.groups)}
        return Result(self.score(predictions, about), predictions, about, test.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        name = about["benchmark"]
        scores = self.accuracy_scores(name, predictions, about["details"])
        for grouping in about["groupings"]:
            column = GROUP + grouping
            recipes = {f"gap_{grouping}": {"kind": "gap", "of": "correct", "by": column}}
            for group in sorted(set(np.asarray(predictions[column]).tolist())):
                recipes[f"top1_{grouping}_{group}"] = {"kind": "mean", "of": "correct", "where": column, "is": group}
            for metric, recipe in recipes.items():
                scores.append(
                    self.as_score(name, metric, bootstrap(statistic_of(predictions, recipe)), statistic=recipe)
                )
        return scores
