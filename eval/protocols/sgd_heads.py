"""Many linear heads trained together on the same batches: one learning rate each, in groups that read the same columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.curation.products import product


@dataclass(frozen=True)
class Group:
    """H heads of C classes that read the same D columns; views into what ``SGDHeads`` trains.

    Attributes:
        columns: which they read.
        rows: weights, head by head.
        offsets: biases.
    """

    columns: slice
    rows: Float[Tensor, "HC D"]
    offsets: Float[Tensor, "H C"]

    @property
    def weight(self) -> Float[Tensor, "D H C"]:
        """Weights of every head, a view."""
        return self.rows.view(*self.offsets.shape, -1).permute(2, 0, 1)

    @property
    def bias(self) -> Float[Tensor, "H C"]:
        """Biases of every head."""
        return self.offsets

    def logits(self, x: Float[Tensor, "b D"]) -> Float[Tensor, "b H C"]:
        """Logits of every head on its own columns."""
        return product(x, self.rows).view(len(x), *self.offsets.shape) + self.offsets


class SGDHeads:
    """Linear classifiers of C classes, each with its own peak learning rate.

    The gradient of the mean cross-entropy of a linear head is ``x.T @ (softmax - onehot) / b``: written out, since the
    heads do not touch each other and SGD treats them alike but for the rate. SGD with momentum, no weight decay, cosine
    decay to 0, as in facebookresearch/dinov2#dinov2/eval/linear.py. Weights start as N(0, 0.01), biases as 0; all heads
    of a group start from the same draw, so that a head does not depend on which others are trained beside it.

    Two GEMMs a group are what a step must cost. The rest is kept small: logits lie as heads x classes x images, so that
    all heads go through one softmax that runs along vectors and need no transposition; the rates are multiplied into
    the logits' gradient, so that momentum is one multiply-add and the update one subtraction for all weights at once.

    Args:
        inputs: for each group the columns it reads and the peak rates of its heads.
        n_classes: C.
        momentum: of SGD.
        seed: of the first weights.
        device: where the heads live.
        dtype: of the heads.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[slice, Float[Tensor, " H"]]],
        n_classes: int,
        *,
        momentum: float,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.momentum = momentum
        self._rates = torch.cat([rates for _, rates in inputs]).to(device, dtype)
        starts = [_first_rows(part.stop - part.start, n_classes, len(rates), seed) for part, rates in inputs]
        self._weights = torch.cat([start.flatten() for start in starts]).to(device, dtype)
        self._speeds = torch.zeros_like(self._weights)
        self._biases = torch.zeros(len(self._rates), n_classes, device=device, dtype=dtype)
        self._bias_speeds = torch.zeros_like(self._biases)
        self.groups: list[Group] = []
        self._rows_speeds: list[Tensor] = []
        weight, head = 0, 0
        for (part, rates), start in zip(inputs, starts, strict=True):
            of_group = slice(weight, weight + start.numel())
            biases = self._biases[head : head + len(rates)]
            self.groups.append(Group(part, self._weights[of_group].view_as(start), biases))
            self._rows_speeds.append(self._speeds[of_group].view_as(start))
            weight, head = of_group.stop, head + len(rates)

    def step(self, x: Float[Tensor, "b W"], y: Int[Tensor, " b"], progress: float) -> None:
        """One SGD step of every head.

        Args:
            x: inputs of which each group reads its columns, in the dtype of the heads.
            y: class ids.
            progress: share of the steps already done, 0 at the first step: sets the cosine.
        """
        b, (n_heads, n_classes) = len(y), self._biases.shape
        logits = torch.cat([product(group.rows, x[:, group.columns]) for group in self.groups])
        gradient = logits.view(n_heads, n_classes, b).add_(self._biases[:, :, None])
        softmax_over_classes(gradient)
        gradient[:, y, torch.arange(b, device=y.device)] -= 1
        gradient *= (self._rates / b)[:, None, None]  # the momentum is that of rate x gradient
        decay = (1 + math.cos(math.pi * progress)) / 2
        self._bias_speeds.mul_(self.momentum).add_(gradient.sum(dim=2))
        self._biases.sub_(self._bias_speeds, alpha=decay)
        self._speeds.mul_(self.momentum)
        xt, first = x.T.contiguous(), 0
        for group, speed in zip(self.groups, self._rows_speeds, strict=True):
            speed.add_(product(logits[first : first + len(speed)], xt[group.columns]))
            first += len(speed)
        self._weights.sub_(self._speeds, alpha=decay)


def softmax_over_classes(logits: Float[Tensor, "H C b"]) -> None:
    """Softmax over dim 1, in place."""
    logits -= logits.amax(dim=1, keepdim=True)
    logits.exp_()
    logits /= logits.sum(dim=1, keepdim=True)


def _first_rows(dim: int, n_classes: int, n_heads: int, seed: int) -> Float[Tensor, "HC D"]:
    start = torch.randn(dim, n_classes, generator=torch.Generator().manual_seed(seed)) * 0.01
    return start.T.repeat(n_heads, 1)
