"""What every protocol is: typed options, an id with a version, and scores from a features folder alone."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int

from strata.curation.device import resolve_device
from strata.eval.accuracy import mean_per_class, top1
from strata.eval.features import FeatureFolders, Features, describe_features
from strata.eval.scores import Score, write_scores


@dataclass
class Result:
    """What a protocol found: numbers, and the columns of ``predictions.parquet``."""

    scores: list[Score]
    predictions: dict[str, Any]


class Protocol(ABC):
    """Base of the protocols, which are dataclasses: a field per option, checked in ``__post_init__``.

    A new protocol sets ``id`` and ``version``, and writes ``evaluate``. Raise the version when a number may move.

    Attributes:
        tasks: kinds of benchmark that it scores (``Benchmark.task``): "classification", "segmentation", "depth", "retrieval".
    """

    id: ClassVar[str]
    version: ClassVar[int]
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    @property
    def patches(self) -> int:
        """Of how many of the last blocks it reads patch tokens: they are stored only where a protocol asks for them."""
        return 0

    @abstractmethod
    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """Fit on the "train" split, choose nothing on the "test" split, and score the latter once."""

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
            ConfigError: an option does not fit the features (``protocol.<option>``). DataError: not a features folder.
        """
        manifest = describe_features(features)
        name = benchmark or manifest["splits"]["test"]["pool"]["name"]
        result = self.evaluate(features, name, resolve_device(device))
        meta = {
            "protocol": {"id": self.id, "version": self.version, "options": self.options()},
            "benchmark": name,
            "backbone": manifest["backbone"],
            "splits": manifest["splits"],
        }
        write_scores(out, result.scores, result.predictions, key=key, inputs=inputs, config=config, meta=meta)
        return result.scores

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:  # noqa: B027
        """Raise a ConfigError if an option cannot be with this training set, or a backbone of so many probed blocks.

        So that a command can refuse before any feature is computed; ``evaluate`` refuses the same.
        """

    def metrics(self) -> tuple[str, ...]:
        """Names of what ``evaluate`` scores."""
        return ("top1", "mean_per_class")

    def options(self) -> dict[str, Any]:
        """The options, JSON-able."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def accuracy_scores(
        self,
        benchmark: str,
        labels: Int[np.ndarray, " n"],
        predicted: Int[np.ndarray, " n"],
        details: Mapping[str, Any],
        suffix: str = "",
    ) -> list[Score]:
        """The scores ``top1`` and ``mean_per_class`` (the one that a long tail of classes calls for)."""
        correct = predicted == labels
        found = {"top1": top1(correct), "mean_per_class": mean_per_class(labels, correct)}
        return [
            Score(self.id, self.version, benchmark, metric + suffix, e.value, e.n, e.low, e.high, dict(details))
            for metric, e in found.items()
        ]


def prediction_columns(test: Features, predicted: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """The columns that every classification protocol stores."""
    return {
        "row": np.arange(len(test)),
        "id": test.ids,
        "label": test.labels,
        "prediction": predicted,
        "correct": predicted == test.labels,
    }
