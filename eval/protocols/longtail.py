"""Protocol ``longtail``, version 1: accuracy of the classes that are frequent, middling and rare in train."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import FeatureFolders
from strata.eval.protocols.base import Protocol, Result, prediction_columns
from strata.eval.protocols.heads import Classifier, open_labelled
from strata.eval.protocols.linear import Linear
from strata.eval.scores import Score

PARTS = ("head", "middle", "tail")


@dataclass
class LongTail(Protocol):
    """Mean accuracy over the classes of a decile, classes ranked by how many training images they have.

    Source: the paper's iNaturalist 2018 and 2021 columns are plain top-1; by frequency in train is how long-tailed
    recognition looks at them (Liu et al. 2019, Large-scale long-tailed recognition in an open world, section 5.1, which
    cuts at 100 and 20 images; deciles fit any data set). The counts are those of TRAIN. Classes of equal count are
    ranked by their id.

    Metrics: ``top1``, ``mean_per_class``, and ``head``, ``middle``, ``tail``: means over the classes of the first
    decile, the ones between, and the last decile. Details: the accuracy of all ten deciles.

    Args:
        classifier: the protocol whose head predicts.
        share: of the classes that are the head, and the tail.

    Raises:
        ConfigError: ``protocol.share`` is out of range.
    """

    id: ClassVar[str] = "longtail"
    version: ClassVar[int] = 1

    classifier: Classifier = field(default_factory=Linear)
    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 0.5:
            raise ConfigError("protocol.share", f"{self.share}", "use a share between 0 and 0.5, e.g. 0.1")

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        if len(np.unique(labels)) < 3:
            problem = f"train has {len(np.unique(labels))} classes, which have no head, middle and tail"
            raise ConfigError("protocol", problem, "use a set of 3 classes or more")
        self.classifier.check(labels, n_blocks)

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return super().metrics() + PARTS

    def options(self) -> dict[str, Any]:
        """See Protocol."""
        return {"classifier": self.classifier.describe(), "share": self.share}

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol. Raises a DataError if head, middle or tail has no test image."""
        train = open_labelled(features, "train")
        self.check(train.labels, train.cls.shape[1])
        part, decile = ranked(np.bincount(train.labels, minlength=train.n_classes), self.share)
        test = open_labelled(features, "test")
        empty = [name for name in PARTS if not (part[test.labels] == name).any()]
        if empty:
            raise DataError(f"features of test: no image of a class of the {empty[0]}; use a test set with all classes")
        head = self.classifier.fit(train, device)
        predictions = prediction_columns(test, head.predict(test))
        predictions |= {"part": part[test.labels], "decile": decile[test.labels]}
        about = {"benchmark": benchmark, "details": head.details}
        return Result(self.score(predictions, about), predictions, about, test.label_names)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        name, details = about["benchmark"], about["details"]
        deciles = []
        for decile in sorted(set(np.asarray(predictions["decile"]).tolist())):
            recipe = {"kind": "mean_by", "of": "correct", "by": "label", "where": "decile", "is": str(decile)}
            of_decile = statistic_of(predictions, recipe)
            deciles.append({"decile": decile, "n_classes": of_decile.n, "accuracy": of_decile.value})
        scores = self.accuracy_scores(name, predictions, {**details, "deciles": deciles})
        for part in PARTS:
            recipe = {"kind": "mean_by", "of": "correct", "by": "label", "where": "part", "is": part}
            found = bootstrap(statistic_of(predictions, recipe))
            scores.append(self.as_score(name, part, found, details={"deciles": deciles}, statistic=recipe))
        return scores


def ranked(counts: Int[np.ndarray, " C"], share: float) -> tuple[np.ndarray, Int[np.ndarray, " C"]]:
    """Of each class: "head", "middle" or "tail", and its decile, 1 = the most frequent classes. Counts are of train."""
    n = len(counts)
    rank = np.empty(n, np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(n)
    ends = min(math.ceil(share * n), (n - 1) // 2)  # both ends leave a class between them
    part = np.where(rank < ends, "head", np.where(rank >= n - ends, "tail", "middle"))
    return part, rank * 10 // n + 1
