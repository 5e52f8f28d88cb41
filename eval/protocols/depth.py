"""Protocol ``depth``, version 1: a linear head on the patch tokens of four layers, root mean square error."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import FeatureFolders, Features
from strata.eval.protocols.base import Protocol, Result
from strata.eval.protocols.dense_heads import (
    DenseData,
    DenseHeads,
    Loss,
    Recipe,
    check_options,
    held_out_rows,
    train_heads,
)
from strata.eval.scores import Score

SIGLOSS_MEAN_WEIGHT = 0.15


@dataclass(frozen=True)
class Readout:
    """How outputs of a head become depth.

    Attributes:
        kind: "bins" or "regression".
        low: smallest depth of the bins, or what regression starts from.
        high: largest depth of the bins, or the scale of regression.
        n: outputs.
    """

    kind: Literal["bins", "regression"]
    low: float
    high: float
    n: int

    def __call__(self, outputs: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w"]:
        """Depth in metres."""
        if self.kind == "regression":
            return outputs[:, 0] * self.high + self.low
        centers = torch.linspace(self.low, self.high, self.n, device=outputs.device)
        share = F.relu(outputs) + 0.1
        return torch.einsum("bkhw,k->bhw", share / share.sum(dim=1, keepdim=True), centers)


@dataclass
class Depth(Protocol):
    """A linear head on the frozen tokens of the last four blocks side by side, each with its block's class token.

    Source: Oquab et al., arXiv:2304.07193, section 7.4 ("lin. 4"), and the paper, section 4.1. ``head="bins"`` is DINOv2's
    formulation, facebookresearch/dinov2#dinov2/eval/depth/models/decode_heads: 256 bins, evenly spaced between the set's
    smallest and largest depth, whose positive outputs weigh their centers; the loss is the scale-invariant log error,
    sqrt(var + 0.15 mean^2) of log(predicted / true). ``head="regression"`` is one output and the squared error, for heights
    and whatever else is not positive; it is no published protocol.

    Departures from DINOv2: the whole image at the network's input size, without crops, flips or test-time flipping; tokens
    standardized in place of batch norm; no gradient loss; the learning rate chosen on held-out images.

    Metrics: ``rmse``, ``mae`` and, of positive depths, ``abs_rel`` and ``delta1`` (share of pixels within a factor 1.25),
    each computed for an image and then averaged over images, as is the convention; ``rmse_pixels`` over all pixels at once.
    Pixels that are NaN do not count.

    Args:
        head: "bins" or "regression".
        n_bins: of "bins".
        n_blocks: of how many of the last blocks the tokens are concatenated.
        class_token: whether each patch token has the class token beside it.
        learning_rates: tried together.
        steps: for the choice and again for the final fit.
        batch_size: images a step.
        weight_decay: of AdamW.
        holdout: share of train that the learning rate is chosen on, by RMSE.
        seed: of the held-out part, the first weights and the batches.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "depth"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("depth",)

    head: Literal["bins", "regression"] = "bins"
    n_bins: int = 256
    n_blocks: int = 4
    class_token: bool = True
    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    steps: int = 38400
    batch_size: int = 16
    weight_decay: float = 1e-2
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.learning_rates = tuple(sorted({float(rate) for rate in self.learning_rates}))
        check_options(
            {
                "head": (self.head in ("bins", "regression"), "bins or regression"),
                "n_bins": (self.n_bins >= 2, "2 or more"),
                "n_blocks": (self.n_blocks >= 1, "1 or more"),
                "learning_rates": (self.learning_rates and self.learning_rates[0] > 0, "one or more numbers above 0"),
                "steps": (self.steps >= 1, "1 or more"),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "weight_decay": (self.weight_decay >= 0, "0 or more"),
                "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
            }
        )

    @property
    def patches(self) -> int:
        """See Protocol."""
        return self.n_blocks

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return ("rmse", "mae", "abs_rel", "delta1", "rmse_pixels")

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol.

        Raises:
            ConfigError: bins are asked for, and the set has no range of positive depths.
            DataError: the features have no patch tokens or maps.
        """
        train = DenseData(Features.open(features, "train"), self.n_blocks, self.class_token, self.id)
        readout = readout_of(self.head, self.n_bins, train)
        heads, rate, trials = self._fit(train, readout, device)
        test = DenseData(Features.open(features, "test"), self.n_blocks, self.class_token, self.id)
        errors = predict_errors(heads, 0, readout, test, np.arange(len(test.features)), device)
        low = test.features.task_info.get("min")
        positive = low is not None and low >= 0
        columns = error_columns(errors, test.features.ids, positive)
        if not columns["scored"].any():
            raise DataError(f"no pixel of the test maps of {benchmark} counts")
        details = {
            "head": self.head,
            "learning_rate": rate,
            "trials": trials,
            "unit": test.features.task_info.get("unit"),
        }
        scores = []
        where = {"where": "scored", "is": "True"}
        recipes = {name: {"kind": "mean", "of": name, **where} for name in self.metrics()[:4] if name in columns}
        recipes["rmse_pixels"] = {"kind": "root_ratio", "of": "squared_error", "over": "pixels"}
        for metric, recipe in recipes.items():
            found = bootstrap(statistic_of(columns, recipe))
            numbers = (found.value, found.n, found.low, found.high)
            scores.append(Score(self.id, self.version, benchmark, metric, *numbers, details, recipe))
        return Result(scores, columns)

    def _fit(
        self, train: DenseData, readout: Readout, device: torch.device
    ) -> tuple[DenseHeads, float, list[dict[str, float]]]:
        """The head at the best learning rate on held-out images, trained on all; that rate; and how each did."""
        loss: Loss = partial(depth_loss, readout=readout)
        chosen_on, fitted_on = held_out_rows(len(train.features), self.holdout, self.seed)
        heads = train_heads(train, fitted_on, self._recipe(), readout.n, loss, device, "depth: choose")
        trials = []
        for head, rate in enumerate(self.learning_rates):
            errors = predict_errors(heads, head, readout, train, chosen_on, device)
            known = errors[errors[:, 0] > 0]
            rmse = float(np.sqrt(known[:, 1] / known[:, 0]).mean()) if len(known) else float("inf")
            trials.append({"learning_rate": rate, "rmse": rmse if np.isfinite(rmse) else float("1e300")})
        best = min(trials, key=lambda trial: trial["rmse"])
        if best["rmse"] >= 1e300:
            problem = "every head diverged, or no pixel of the held-out maps counts"
            raise ConfigError("protocol.learning_rates", problem, "add smaller ones, or raise holdout")
        rows, recipe = np.arange(len(train.features)), self._recipe((best["learning_rate"],))
        final = train_heads(train, rows, recipe, readout.n, loss, device, "depth: fit")
        return final, best["learning_rate"], trials

    def _recipe(self, rates: Sequence[float] | None = None) -> Recipe:
        return Recipe(rates or self.learning_rates, self.steps, self.batch_size, self.weight_decay, self.seed)


def readout_of(head: Literal["bins", "regression"], n_bins: int, train: DenseData) -> Readout:
    """The readout for a training set: its range of depths, or mean and scale of its values.

    Raises:
        ConfigError: bins, and the set has no range of positive depths. DataError: no pixel of its maps counts.
    """
    if head == "bins":
        low, high = (train.features.task_info.get(name) for name in ("min", "max"))
        if low is None or high is None or low < 0:
            problem = "'bins' needs a range of positive depths, and this set has none"
            raise ConfigError("protocol.head", problem, "use regression")
        return Readout("bins", max(float(low), 1e-3), float(high), n_bins)
    sample = np.concatenate([np.asarray(train.targets[row]).ravel()[::7] for row in range(len(train.features))])
    known = sample[np.isfinite(sample)].astype(np.float64)
    if not len(known):
        raise DataError("no pixel of the training maps counts")
    return Readout("regression", float(known.mean()), max(float(known.std()), 1e-6), 1)


def depth_loss(outputs: Float[Tensor, "b k h w"], maps: Float[Tensor, "b h w"], readout: Readout) -> Float[Tensor, ""]:
    """Over the pixels that are known: scale-invariant log error (bins), or mean squared error in units of the scale."""
    known = maps.isfinite()
    predicted, true = readout(outputs)[known], maps[known]
    if true.numel() == 0:
        return outputs.sum() * 0
    if readout.kind == "regression":
        return ((predicted - true) / readout.high).square().mean()
    ratio = predicted.log() - true.clamp(min=1e-3).log()
    return (ratio.var(unbiased=False) + SIGLOSS_MEAN_WEIGHT * ratio.mean().square() + 1e-12).sqrt()


def predict_errors(
    heads: DenseHeads,
    head: int,
    readout: Readout,
    data: DenseData,
    rows: Int[np.ndarray, " n"],
    device: torch.device | str,
) -> Float[np.ndarray, "n 5"]:
    """Sums over the known pixels of each image: see ``error_sums``. Predictions are brought to the map's own size."""
    found = np.zeros((len(rows), 5))
    for i, row in enumerate(rows.tolist()):
        true = torch.from_numpy(np.array(data.targets[row])).to(device)
        with torch.no_grad():
            outputs = heads(data.tokens(np.array([row]), device), head, heads.grid)
            size = (true.shape[0], true.shape[1])
            predicted = F.interpolate(readout(outputs)[:, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        found[i] = error_sums(predicted, true).cpu().numpy()
    return found


def error_sums(predicted: Float[Tensor, "h w"], true: Float[Tensor, "h w"]) -> Float[Tensor, " 5"]:
    """Known pixels, squared error, absolute error, absolute error over the truth, pixels within a factor 1.25."""
    known = true.isfinite()
    p, y = predicted[known].double(), true[known].double()
    error = (p - y).abs()
    ratio = torch.maximum(p / y, y / p)
    near = (ratio < 1.25) & (p > 0) & (y > 0)
    return torch.stack(
        [y.new_tensor(len(y)), error.square().sum(), error.sum(), (error / y).nan_to_num(posinf=0.0).sum(), near.sum()]
    )


def error_columns(errors: Float[np.ndarray, "n 5"], ids: Sequence[str], positive: bool) -> dict[str, Any]:
    """Columns of ``predictions.parquet``: means of each image, and sums for the metric over all pixels."""
    n, square, absolute, relative, near = errors.T
    pixels = np.maximum(n, 1)
    columns: dict[str, Any] = {
        "row": np.arange(len(errors)),
        "id": list(ids),
        "scored": n > 0,
        "pixels": n,
        "squared_error": square,
        "rmse": np.sqrt(square / pixels),
        "mae": absolute / pixels,
    }
    return columns | ({"abs_rel": relative / pixels, "delta1": near / pixels} if positive else {})
