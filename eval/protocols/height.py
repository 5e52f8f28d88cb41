"""Protocol ``height``, version 1: a DPT decoder on the frozen tokens of several layers, errors of the height per pixel and
of means over blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import ConfigError, DataError
from strata.curation.progress import progress
from strata.eval.bootstrap import bootstrap, statistic_of
from strata.eval.features import FeatureFolders, Features, splits_of
from strata.eval.height_metrics import error_sums
from strata.eval.protocols.base import Protocol, Result
from strata.eval.protocols.dense_heads import (
    DenseData,
    check_options,
    cosine_with_warmup,
    held_out_rows,
    token_statistics,
)
from strata.eval.protocols.depth import Readout, depth_loss, readout_of
from strata.eval.protocols.dpt import DecoderShape, DPTDecoder
from strata.eval.protocols.linear import batches
from strata.eval.scores import Score

# How each number comes from the sums of ``height_metrics.error_sums``
_RECIPES: dict[str, dict[str, str]] = {
    "mae": {"kind": "ratio", "of": "absolute", "over": "pixels"},
    "rmse": {"kind": "root_ratio", "of": "squared", "over": "pixels"},
    "r2": {"kind": "r2", "of": "squared", "truth": "truth", "square": "truth_squared", "over": "pixels"},
    "block_r2": {
        "kind": "r2", "of": "block_squared", "truth": "block_truth", "square": "block_truth_squared", "over": "blocks",
    },
    "bias": {"kind": "ratio", "of": "signed", "over": "pixels"},
}  # fmt: skip


@dataclass
class Height(Protocol):
    """Heights by a DPT decoder trained on a frozen backbone.

    Source: paper Table 7, after Tolan et al. (arXiv:2304.07213): a DPT decoder on top of the SSL backbone. Decoder and
    metric as in facebookresearch/HighResCanopyHeight (see ``dpt.py``, ``height_metrics.py``), whose head is
    ``head="bins"``: 256 bins up to 10 in units of 10 m. Its training code is not public.

    Departures. Tokens are computed once, so images are neither cropped nor flipped while the decoder learns; tokens are
    standardized by mean and scale of train; the learning rate is chosen by RMSE on a held-out part of train, and the
    decoder is trained again on all of train. ``head="regression"`` (squared error) is for heights that may be negative, and
    ``head="root"`` the same of their root with their sign, so that a few high mountains do not rule the error.

    Every split but "train" is scored. Metrics over all valid pixels of all maps together: ``mae``, ``rmse``, ``bias``
    (prediction less truth), ``r2``, and ``block_r2``, that of means over blocks; those of a shifted split have its name
    behind them (``r2_ood``). Intervals: bootstrap over images. A prediction below the smallest height that the set can
    have (0 for a canopy) is raised to it.

    Args:
        factors: scale of each block's map in the decoder over the grid of patches: one for each of the last blocks.
        widths: channels of these maps.
        fusion: channels of the fused maps.
        head_width: channels of the last hidden layer.
        readout: how the class token comes in: "project" (joined with every patch token, as DPT), "add", or "ignore".
        dropout: share of the channels of the tokens that is hidden in training.
        head: "bins", "regression" (see the depth protocol), or "root".
        n_bins: of "bins".
        learning_rates: tried one after the other, each for all steps.
        steps: for the choice and again for the final fit.
        batch_size: images a step.
        weight_decay: of AdamW.
        holdout: share of train that the learning rate is chosen on.
        holdout_by: a column of the items: those of equal value are held out together, as tiles that overlap have to be. Empty:
            each by itself.
        block: side in pixels of the blocks of ``block_r2``.
        crop: pixels cut off each side before blocks are made.
        seed: of the held-out part, the first weights and the batches.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "height"
    version: ClassVar[int] = 1
    tasks: ClassVar[tuple[str, ...]] = ("depth",)
    scores_shifts: ClassVar[bool] = True

    factors: Sequence[float] = (4, 2, 1, 0.5)
    widths: Sequence[int] = (128, 256, 512, 1024)
    fusion: int = 256
    head_width: int = 32
    readout: Literal["project", "add", "ignore"] = "project"
    dropout: float = 0.0
    head: Literal["bins", "regression", "root"] = "bins"
    n_bins: int = 256
    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3)
    steps: int = 20000
    batch_size: int = 16
    weight_decay: float = 1e-2
    holdout: float = 0.1
    holdout_by: str = ""
    block: int = 50
    crop: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        self.learning_rates = tuple(sorted({float(rate) for rate in self.learning_rates}))
        fine = len(self.factors) and all((f >= 1 and f == int(f)) or f in (0.5, 0.25) for f in self.factors)
        self.factors, self.widths = tuple(int(f) if f >= 1 else f for f in self.factors), tuple(self.widths)
        check_options(
            {
                "factors": (fine, "whole numbers, 0.5 or 0.25, e.g. [4, 2, 1, 0.5]"),
                "widths": (
                    len(self.widths) == len(self.factors) and min(self.widths, default=0) >= 1,
                    "one per factor",
                ),
                "fusion": (self.fusion >= 2, "2 or more"),
                "head_width": (self.head_width >= 1, "1 or more"),
                "readout": (self.readout in ("project", "add", "ignore"), "project, add or ignore"),
                "dropout": (0 <= self.dropout < 1, "a share from 0 to below 1"),
                "head": (self.head in ("bins", "regression", "root"), "bins, regression or root"),
                "n_bins": (self.n_bins >= 2, "2 or more"),
                "learning_rates": (self.learning_rates and self.learning_rates[0] > 0, "one or more numbers above 0"),
                "steps": (self.steps >= 1, "1 or more"),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "weight_decay": (self.weight_decay >= 0, "0 or more"),
                "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
                "block": (self.block >= 1, "1 or more pixels"),
                "crop": (self.crop >= 0, "0 or more pixels"),
            }
        )

    @property
    def patches(self) -> int:
        """See Protocol."""
        return len(self.factors)

    def metrics(self) -> tuple[str, ...]:
        """See Protocol."""
        return tuple(_RECIPES)

    def evaluate(self, features: FeatureFolders, benchmark: str, device: torch.device) -> Result:
        """See Protocol.

        Raises:
            ConfigError: bins are asked for without a range of heights, or every decoder diverged.
            DataError: the features have no patch tokens or maps, no map holds a whole block, or no true height differs.
        """
        train = self._open(features, "train")
        readout = self._readout(train)
        decoder, details = self._fit(train, readout, device)
        splits = sorted((split for split in splits_of(features) if split != "train"), key=lambda s: (s != "test", s))
        parts = []
        for split in splits:  # when nothing is left to choose
            data = self._open(features, split)
            sums = [self._sums(decoder, readout, data, row, device) for row in range(len(data.features))]
            columns: dict[str, Any] = {
                "split": [split] * len(sums),
                "row": np.arange(len(sums)),
                "id": data.features.ids,
            }
            parts.append(columns | {name: np.array([each[name] for each in sums]) for name in sums[0]})
        predictions = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
        details |= {"head": self.head, "unit": train.features.task_info.get("unit")}
        about = {"benchmark": benchmark, "details": details, "splits": splits}
        return Result(self.score(predictions, about), predictions, about)

    def score(self, predictions: Mapping[str, Any], about: Mapping[str, Any]) -> list[Score]:
        """See Protocol."""
        scores = []
        for split in about["splits"]:
            _check_sums(predictions, split, about["benchmark"], self.block)
            for metric, recipe in _RECIPES.items():
                told = {**recipe, "where": "split", "is": split}
                found = bootstrap(statistic_of(predictions, told))
                name = metric if split == "test" else f"{metric}_{split}"
                numbers = (found.value, found.n, found.low, found.high)
                scores.append(
                    Score(self.id, self.version, about["benchmark"], name, *numbers, dict(about["details"]), told)
                )
        return scores

    def _readout(self, train: DenseData) -> Readout:
        """How outputs become heights, or their roots."""
        if self.head != "root":
            return readout_of(self.head, self.n_bins, train)
        sample = np.concatenate([np.asarray(train.targets[row]).ravel()[::7] for row in range(len(train.features))])
        known = torch.from_numpy(sample[np.isfinite(sample)].astype(np.float64))
        if not len(known):
            raise DataError("no pixel of the training maps counts")
        roots = signed_root(known)
        return Readout("regression", float(roots.mean()), max(float(roots.std(correction=0)), 1e-6), 1)

    def _open(self, features: FeatureFolders, split: str) -> DenseData:
        return DenseData(Features.open(features, split), len(self.factors), True, self.id)

    def _fit(self, train: DenseData, readout: Readout, device: torch.device) -> tuple[DPTDecoder, dict[str, Any]]:
        """The decoder at the best learning rate on held-out images, trained on all; that rate, and how each did."""
        chosen_on, fitted_on = self._held_out(train.features)
        trials = []
        for rate in self.learning_rates:
            decoder = self._train(train, fitted_on, rate, readout, device, "height: choose")
            trials.append({"learning_rate": rate, "rmse": self._rmse(decoder, readout, train, chosen_on, device)})
        best = min(trials, key=lambda trial: trial["rmse"])
        if best["rmse"] >= 1e300:
            problem = "every decoder diverged, or no pixel of the held-out maps counts"
            raise ConfigError("protocol.learning_rates", problem, "add smaller ones, or raise holdout")
        final = self._train(
            train, np.arange(len(train.features)), best["learning_rate"], readout, device, "height: fit"
        )
        return final, {"learning_rate": best["learning_rate"], "trials": trials}

    def _held_out(self, features: Features) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
        """Images to choose on, and images to fit on."""
        if not self.holdout_by:
            return held_out_rows(len(features), self.holdout, self.seed)
        values = features.columns.get(self.holdout_by)
        if values is None:
            known = ", ".join(features.columns) or "none"
            raise DataError(f"protocol.holdout_by: the images have no column {self.holdout_by!r}; there are {known}")
        return held_out_groups(np.asarray(values), self.holdout, self.seed)

    def _train(
        self,
        data: DenseData,
        rows: Int[np.ndarray, " n"],
        rate: float,
        readout: Readout,
        device: torch.device,
        what: str,
    ) -> DPTDecoder:
        mean, scale = token_statistics(data, rows, self.seed, device)
        shape = DecoderShape(self.factors, self.widths, self.fusion, self.head_width, self.readout, self.dropout)
        decoder = DPTDecoder(mean, scale, data.grid, shape, readout.n, self.seed).to(device).train()
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, self.steps))
        with progress(self.steps, what, "steps") as bar, torch.random.fork_rng(_cuda(device)):
            torch.manual_seed(self.seed)  # of the dropout
            for batch in batches(rows, self.batch_size, self.steps, self.seed):
                picked = np.sort(batch)  # in the order of the file
                maps = data.maps(picked, decoder.size, device)
                maps = signed_root(maps) if self.head == "root" else maps
                optimizer.zero_grad(set_to_none=True)
                depth_loss(decoder(data.tokens(picked, device)), maps, readout).backward()
                optimizer.step()
                schedule.step()
                bar.update()
        return decoder.eval().requires_grad_(False)

    def _predict(
        self, decoder: DPTDecoder, readout: Readout, data: DenseData, row: int, device: torch.device
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """The predicted map of an image, brought to the size of its own, and that."""
        true = np.array(data.targets[row])
        with torch.no_grad():
            found: Tensor = readout(decoder(data.tokens(np.array([row]), device)))[:, None]
            found = found * found.abs() if self.head == "root" else found
            if found.shape[-2:] != true.shape:
                found = F.interpolate(found, size=true.shape, mode="bilinear", align_corners=False)
        low = data.features.task_info.get("min")
        if low is not None:
            found = found.clamp(min=float(low))
        return found[0, 0].cpu().numpy(), true

    def _sums(
        self, decoder: DPTDecoder, readout: Readout, data: DenseData, row: int, device: torch.device
    ) -> dict[str, float]:
        return error_sums(*self._predict(decoder, readout, data, row, device), block=self.block, crop=self.crop)

    def _rmse(
        self, decoder: DPTDecoder, readout: Readout, data: DenseData, rows: Int[np.ndarray, " n"], device: torch.device
    ) -> float:
        """Over all valid pixels of some images; 1e300 where it is not finite or there are none."""
        square, n = 0.0, 0
        for row in rows.tolist():
            predicted, true = self._predict(decoder, readout, data, row, device)
            error = (predicted - true)[np.isfinite(true)].astype(np.float64)
            square, n = square + float(np.square(error).sum()), n + error.size
        rmse = float(np.sqrt(square / n)) if n else float("inf")
        return rmse if np.isfinite(rmse) else 1e300


def signed_root(heights: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Root of the size, with the sign: x * |x| of it is the height again."""
    return heights.sign() * heights.abs().sqrt()


def held_out_groups(values: np.ndarray, share: float, seed: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Rows of some values, drawn until they are at least ``share`` of all, and the rows of the others; both sorted.

    Raises:
        ConfigError: fewer than two values.
    """
    groups, codes = np.unique(values, return_inverse=True)
    if len(groups) < 2:
        raise ConfigError(
            "protocol.holdout_by", f"all images are of {str(groups[0])!r}", "use a column with several values"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    reached = np.cumsum(np.bincount(codes)[order])
    chosen = order[: min(len(groups) - 1, 1 + int(np.searchsorted(reached, share * len(values))))]
    held = np.isin(codes, chosen)
    return np.flatnonzero(held), np.flatnonzero(~held)


def _cuda(device: torch.device) -> list[int]:
    """Devices whose generators are to be left as they were."""
    return [device.index or 0] if device.type == "cuda" else []


def _check_sums(predictions: Mapping[str, Any], split: str, benchmark: str, block: int) -> None:
    """Raise a DataError where a number of a split has no meaning."""
    rows = np.asarray(predictions["split"]) == split
    total = {name: float(np.asarray(values)[rows].sum()) for name, values in predictions.items() if name in _SUMMED}
    if not total["pixels"]:
        raise DataError(f"no pixel of the {split} maps of {benchmark} is valid; check their nodata value")
    if not total["blocks"]:
        raise DataError(f"no {split} map of {benchmark} holds a whole block of {block} pixels; lower protocol.block")
    for prefix, count in (("", "pixels"), ("block_", "blocks")):
        mean = total[f"{prefix}truth"] / total[count]
        if total[f"{prefix}truth_squared"] - total[count] * mean**2 <= 1e-12 * total[f"{prefix}truth_squared"]:
            raise DataError(f"all true heights of {split} of {benchmark} are equal, so R2 has no meaning")


_SUMMED = ("pixels", "truth", "truth_squared", "blocks", "block_truth", "block_truth_squared")
