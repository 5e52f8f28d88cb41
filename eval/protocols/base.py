"""What every protocol is: typed options, an id with a version, and scores from features alone."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from strata.curation.device import resolve_device
from strata.curation.errors import DataError
from strata.eval.accuracy import Estimate, mean_per_class, top1
from strata.eval.features import FeatureFolders, Features, describe_features
from strata.eval.scores import Score, write_scores


@dataclass
class Result:
    """What a protocol found.

    Attributes:
        scores: numbers.
        predictions: the columns of ``predictions.parquet``.
        about: JSON-able; with ``predictions`` all that ``Protocol.score`` needs. Empty if it cannot score again.
        label_names: of the classes, for ``per_class.parquet``.
    """

    scores: list[Score]
    predictions: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    label_names: list[str] = field(default_factory=list)


class Protocol(ABC):
    """Base of the protocols, which are dataclasses: a field per option, checked in ``__post_init__``.

    A new protocol sets ``id`` and ``version``, and writes ``evaluate``. Raise ``version`` when a number may move, and
    ``predictions_version`` too unless only the way from predictions to scores changed: then old ones can be rescored.

    Attributes:
        tasks: kinds of benchmark that it scores (``Benchmark.task``): "classification", "segmentation", "depth", "retrieval".
        needs: fields of the benchmark that must not be empty: "shifts", "groups".
        scores_shifts: whether every metric comes again for each shifted test set, with its name behind.
    """

    id: ClassVar[str]
    version: ClassVar[int]
    predictions_version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    needs: ClassVar[tuple[str, ...]] = ()
    scores_shifts: ClassVar[bool] = False

    @property
    def patches(self) -> int:
        """Of how many of the last blocks it reads patch tokens: they are stored only where a protocol asks for them."""
        return 0

    @property
    def full_version(self) -> Any:
        """The version, and that of the protocol whose head it uses, if any: what a stage's key says."""
        classifier = getattr(self, "classifier", None)
        return self.version if classifier is None else [self.version, classifier.id, classifier.version]

    @abstractmethod
    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """Fit on the "train" split, choose nothing on the "test" split, and score the latter once."""

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """The scores of stored predictions, from nothing else. ``evaluate`` calls it too.

        Raises:
            DataError: this protocol keeps too little for that.
        """
        raise DataError(f"{self.id}-v{self.version} cannot score stored predictions; run the evaluation again")

    def run(
        self,
        features: FeatureFolders,
        out: str | Path,
        *,
        benchmark: str = "",
        device: str = "auto",
        key: str = "",
        inputs: Mapping[str, str] | None = None,
        config: Any = None,
    ) -> list[Score]:
        """Evaluate a features folder and write a scores folder.

        Args:
            features: made by ``extract_features``, a folder or one for each split; nothing else is read.
            out: the folder to make. Must not exist yet.
            benchmark: its name in the scores; default: the name of the test pool.
            device: "auto" takes a GPU if there is one.
            key: content key of the stage; ``inputs`` and ``config``: see ``create_artifact``.

        Raises:
            ConfigError: an option does not fit the features (``protocol.<option>``). DataError: not a features folder,
                or labels outside its classes.
        """
        manifest = describe_features(features)
        splits = manifest["splits"]
        name = benchmark or splits.get("test", next(iter(splits.values())))["pool"]["name"]
        result = self.evaluate(features, name, resolve_device(device))
        meta = {
            "protocol": self.describe(),
            "benchmark": name,
            "backbone": manifest["backbone"],
            "splits": splits,
            "about": result.about,
            "label_names": result.label_names,
        }
        write_scores(
            out,
            result.scores,
            result.predictions,
            label_names=result.label_names,
            key=key,
            inputs=inputs,
            config=config,
            meta=meta,
        )
        return result.scores

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:  # noqa: B027
        """Raise a ConfigError if an option cannot be with this training set, or a backbone of so many probed blocks.

        So that a command can refuse before any feature is computed; ``evaluate`` refuses the same.
        """

    def metrics(self) -> tuple[str, ...]:
        """Names of what ``evaluate`` scores."""
        return ("top1", "mean_per_class")

    def metrics_of(self, splits: Iterable[str]) -> tuple[str, ...]:
        """The same on a benchmark of these splits."""
        shifts = sorted(set(splits) - {"train", "test"}) if self.scores_shifts else []
        return self.metrics() + tuple(f"{name}_{shift}" for shift in shifts for name in self.metrics())

    def options(self) -> dict[str, Any]:
        """The options, JSON-able."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def describe(self) -> dict[str, Any]:
        """What a manifest says of it."""
        versions = {"version": self.version, "predictions_version": self.predictions_version}
        return {"id": self.id, **versions, "options": self.options()}

    def as_score(self, benchmark: str, metric: str, found: Estimate, **more: Any) -> Score:
        """A record of this protocol; ``more``: details, statistic."""
        return Score(self.id, self.version, benchmark, metric, found.value, found.n, found.low, found.high, **more)

    def accuracy_scores(
        self,
        benchmark: str,
        predictions: Mapping[str, Any],
        details: Mapping[str, Any],
        suffix: str = "",
        column: str = "correct",
        split: str = "",
    ) -> list[Score]:
        """The scores ``top1`` and ``mean_per_class`` (the one that a long tail of classes calls for).

        Args:
            benchmark: its name.
            predictions: with the columns ``label`` and ``column``, and ``split`` if one is named.
            details: of each score.
            suffix: of the metrics' names.
            column: which says what is right.
            split: take only the rows of this one.
        """
        rows = np.asarray(predictions["split"]) == split if split else slice(None)
        labels, correct = (np.asarray(predictions[name])[rows] for name in ("label", column))
        where = {"where": "split", "is": split} if split else {}
        found = {
            "top1": (top1(correct), {"kind": "mean", "of": column}),
            "mean_per_class": (mean_per_class(labels, correct), {"kind": "mean_by", "of": column, "by": "label"}),
        }
        return [
            self.as_score(benchmark, metric + suffix, estimate, details=dict(details), statistic=recipe | where)
            for metric, (estimate, recipe) in found.items()
        ]


def prediction_columns(test: Features, predicted: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """The columns that every classification protocol stores."""
    return {
        "row": np.arange(len(test)),
        "id": test.ids,
        "label": test.labels,
        "prediction": predicted,
        "correct": is_correct(test, predicted),
    }


def is_correct(test: Features, predicted: Int[np.ndarray, " n"]) -> np.ndarray:
    """Whether the prediction is the label, or one of the accepted classes where the set has several for an image.

    Source of the latter: ReaL accuracy (Beyer et al. 2020, Are we done with ImageNet?, section 4); ObjectNet's classes
    that are several of ImageNet's (Barbu et al. 2019).
    """
    accepted = test.columns.get("accepted")
    if accepted is None:
        return np.asarray(predicted == test.labels)
    return np.array([found in right for found, right in zip(predicted.tolist(), accepted, strict=True)], bool)
