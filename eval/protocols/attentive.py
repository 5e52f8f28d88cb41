"""Protocol ``attentive``, version 1: an attention-pooling probe on the patch tokens of the last block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import ConfigError
from strata.curation.progress import progress
from strata.eval.features import Features
from strata.eval.protocols.attentive_heads import AttentiveHead
from strata.eval.protocols.heads import Classifier, Head
from strata.eval.protocols.linear import batches
from strata.eval.protocols.selection import ChooseBy, best_trial, check_holdout, held_out_rows


@dataclass
class Attentive(Classifier):
    """Learned queries attend to frozen patch tokens; what they gather is classified linearly.

    Source: the attentive probe of Chen et al. 2022 (Context autoencoder), section 4, and El-Nouby et al. 2024 (AIM),
    section 4.3: cross-attention with learned queries on the frozen tokens of the last block, then a linear layer, the
    tokens standardized without learned scale. AdamW, cosine to 0. All learning rates are trained in one pass over the
    tokens; the best on a held-out part of train is trained again on all of train.

    A departure: tokens are standardized by their mean and variance over a part of train, where AIM's batch
    normalization makes a prediction depend on the batches.

    Metrics: ``top1``, ``mean_per_class``.

    Args:
        learning_rates: the grid.
        n_heads: attention heads; the width of a token must be a multiple of it.
        steps: of AdamW, for the choice and again for the final fit.
        batch_size: images a step.
        weight_decay: of AdamW.
        holdout: share of train on which the rate is chosen.
        choose_by: "top1" on the held-out part (equals: the lower cross-entropy), or "cross_entropy".
        seed: of the held-out part, the first weights and the batches.

    Raises:
        ConfigError: ``protocol.<option>`` is out of range.
    """

    id: ClassVar[str] = "attentive"
    version: ClassVar[int] = 1

    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    n_heads: int = 12
    steps: int = 12500
    batch_size: int = 128
    weight_decay: float = 0.1
    holdout: float = 0.1
    choose_by: ChooseBy = "top1"
    seed: int = 0

    def __post_init__(self) -> None:
        self.learning_rates = tuple(sorted({float(rate) for rate in self.learning_rates}))
        checks = {
            "learning_rates": (self.learning_rates and self.learning_rates[0] > 0, "one or more numbers above 0"),
            "n_heads": (self.n_heads >= 1, "1 or more"),
            "steps": (self.steps >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "holdout": (0 < self.holdout < 1, "a share between 0 and 1, e.g. 0.1"),
            "choose_by": (self.choose_by in ("top1", "cross_entropy"), "top1 or cross_entropy"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise ConfigError(f"protocol.{name}", f"{getattr(self, name)!r} is not allowed", f"use {wanted}")

    @property
    def patches(self) -> int:
        """See Protocol."""
        return 1

    def check(self, labels: Int[np.ndarray, " n"], n_blocks: int) -> None:
        """See Protocol."""
        check_holdout(labels)

    def fit(self, train: Features, device: torch.device | str = "cpu") -> "AttentiveProbe":
        """Choose the rate on a held-out part of ``train``, and fit it to all of ``train``."""
        self.check(train.labels, train.cls.shape[1])
        dim = train.need_patches(1, self.id).shape[3]
        if dim % self.n_heads:
            problem = f"{self.n_heads} heads do not divide tokens of {dim} dims"
            raise ConfigError("protocol.n_heads", problem, "use a divisor of the width")
        fitted_on, held_out = held_out_rows(train.labels, self.holdout, self.seed)
        read = TokenReader.of(train, fitted_on, device)  # the held-out part takes no part in the scale
        trials = []
        with torch.no_grad():
            for rate, head in self._train(train, read, fitted_on, self.learning_rates, "attentive: choose").items():
                trials.append({"learning_rate": rate, **_judged(head, read, train, held_out)})
        rate = best_trial(trials, self.choose_by)["learning_rate"]
        head = self._train(train, read, np.arange(len(train)), [rate], "attentive: fit")[rate]
        ends = (self.learning_rates[0], self.learning_rates[-1])
        details = {
            "chosen": {"learning_rate": rate},
            "chosen_by": self.choose_by,
            "chosen_at_end_of_learning_rates": len(self.learning_rates) > 1 and rate in ends,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "trials": trials,
        }
        return AttentiveProbe(head, read, details)

    @torch.enable_grad()
    def _train(
        self, train: Features, read: "TokenReader", rows: np.ndarray, rates: Sequence[float], what: str
    ) -> dict[float, AttentiveHead]:
        """One head for each rate, all from the same first weights and on the same batches."""
        dim = read.mean.shape[0]
        heads = {
            rate: AttentiveHead(dim, train.n_classes, self.n_heads, torch.Generator().manual_seed(self.seed))
            for rate in rates
        }
        groups: list[dict[str, Any]] = []
        for rate, head in heads.items():
            head.to(read.mean.device)
            groups.append({"params": list(head.parameters()), "lr": rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps, eta_min=0)
        labels = torch.from_numpy(np.array(train.labels)).to(read.mean.device)
        with progress(self.steps, what, "steps") as bar:
            for batch in batches(rows, self.batch_size, self.steps, self.seed):
                tokens, y = read(train, batch), labels[torch.from_numpy(batch).to(labels.device)]
                losses = [F.cross_entropy(head(tokens), y) for head in heads.values()]
                optimizer.zero_grad()
                torch.stack(losses).sum().backward()  # the heads share nothing: each gets its own gradient
                optimizer.step()
                schedule.step()
                bar.update()
        return heads


@dataclass(frozen=True)
class TokenReader:
    """Patch tokens of the last block in float32 on a device, standardized."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    @classmethod
    def of(cls, train: Features, rows: np.ndarray, device: torch.device | str, most: int = 1024) -> "TokenReader":
        """Mean and standard deviation over the tokens of at most so many of the rows, evenly spaced."""
        some = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
        patches = train.need_patches(1, "attentive")
        tokens = np.asarray(patches[some, -1], np.float64).reshape(-1, patches.shape[3])
        scale = 1 / np.sqrt(tokens.var(axis=0) + 1e-6)
        return cls(*(torch.from_numpy(part).float().to(device) for part in (tokens.mean(axis=0), scale)))

    def __call__(self, features: Features, rows: np.ndarray) -> Float[Tensor, "b p d"]:
        """The tokens of some images."""
        tokens = np.asarray(features.need_patches(1, "attentive")[rows, -1], np.float32)
        return (torch.from_numpy(tokens).to(self.mean.device) - self.mean) * self.scale


@dataclass(frozen=True)
class AttentiveProbe(Head):
    """A fitted probe."""

    head: AttentiveHead
    read: TokenReader
    details: dict[str, Any]

    @torch.no_grad()
    def logits(self, features: Features, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b C"]:
        """See Head."""
        parts = np.array_split(rows, max(1, -(-len(rows) // 256)))  # tokens are large
        return torch.cat([self.head(self.read(features, part)) for part in parts])


def _judged(head: AttentiveHead, read: TokenReader, train: Features, rows: np.ndarray) -> dict[str, Any]:
    logits = AttentiveProbe(head, read, {}).logits(train, rows).double()
    y = torch.from_numpy(train.labels[rows]).to(logits.device)
    loss, right = float(F.cross_entropy(logits, y)), float((logits.argmax(dim=1) == y).double().mean())
    finite = np.isfinite(loss)
    return {"top1": right if finite else -1.0, "cross_entropy": loss if finite else None}
