"""Many linear heads on the same input, one per learning rate, trained together: one GEMM forward, one backward."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.eval.products import product


class SGDHeads:
    """H linear classifiers of C classes on inputs of D dims, each with its own peak learning rate.

    The gradient of the mean cross-entropy of a linear head is ``x.T @ (softmax - onehot) / b``: written out, since the
    heads do not touch each other and SGD treats them alike but for the rate. SGD with momentum, no weight decay, cosine
    decay to 0, as in facebookresearch/dinov2#dinov2/eval/linear.py. Weights start as N(0, 0.01), biases as 0; all heads
    start from the same draw, so that a head does not depend on which others are trained beside it.

    A step's cost, beside the two GEMMs, is what it does to every weight: the rates are multiplied into the logits'
    gradient, which is small, so that the momentum is one multiply-add and the update one subtraction.

    Args:
        dim: D.
        n_classes: C.
        learning_rates: peak rate of each head.
        momentum: of SGD.
        seed: of the first weights.
        device: where the heads live.
        dtype: of the heads.
    """

    def __init__(
        self,
        dim: int,
        n_classes: int,
        learning_rates: Float[Tensor, " H"],
        *,
        momentum: float,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        start = torch.randn(dim, n_classes, generator=torch.Generator().manual_seed(seed)) * 0.01
        self._shape = (n_classes, len(learning_rates))
        self._rows = start.T.to(device, dtype).repeat_interleave(len(learning_rates), dim=0)  # (C H) D
        self._bias = torch.zeros(self._shape, device=device, dtype=dtype)  # C H
        self.momentum = momentum
        self._rates = learning_rates.to(device, dtype)
        self._rows_speed, self._bias_speed = torch.zeros_like(self._rows), torch.zeros_like(self._bias)

    @property
    def weight(self) -> Float[Tensor, "D H C"]:
        """Weights of every head, a view."""
        return self._rows.view(*self._shape, -1).permute(2, 1, 0)

    @property
    def bias(self) -> Float[Tensor, "H C"]:
        """Biases of every head, a view."""
        return self._bias.T

    def logits(self, x: Float[Tensor, "b D"]) -> Float[Tensor, "b H C"]:
        """Logits of every head."""
        return self._logits(x).permute(0, 2, 1)

    def _logits(self, x: Float[Tensor, "b D"]) -> Float[Tensor, "b C H"]:
        return product(x, self._rows).view(len(x), *self._shape).add_(self._bias)

    def step(self, x: Float[Tensor, "b D"], y: Int[Tensor, " b"], progress: float) -> None:
        """One SGD step of every head.

        Args:
            x: inputs, in the dtype of the heads.
            y: class ids.
            progress: share of the steps already done, 0 at the first step: sets the cosine.
        """
        step_together([self], x, [slice(None)], y, progress)

    def _update(self, gradient: Float[Tensor, "b C H"], xt: Float[Tensor, "D b"], decay: float) -> None:
        """``gradient`` has the rates in it: the momentum is that of rate x gradient."""
        self._bias_speed.mul_(self.momentum).add_(gradient.sum(dim=0))
        self._bias.sub_(self._bias_speed, alpha=decay)
        self._rows_speed.mul_(self.momentum).add_(product(gradient.permute(1, 2, 0).flatten(0, 1), xt))
        self._rows.sub_(self._rows_speed, alpha=decay)


def step_together(
    groups: Sequence[SGDHeads],
    x: Float[Tensor, "b W"],
    columns: Sequence[slice],
    y: Int[Tensor, " b"],
    progress: float,
) -> None:
    """One SGD step of several groups of heads, each of which reads a range of the columns of ``x``.

    What is done to logits is done to those of all heads at once: they lie next to each other.
    """
    gradient = torch.cat([group._logits(x[:, part]) for group, part in zip(groups, columns, strict=True)], dim=2)
    softmax_over_classes(gradient)
    gradient[torch.arange(len(y), device=y.device), y] -= 1
    gradient *= torch.cat([group._rates for group in groups]) / len(y)
    xt = x.T.contiguous()
    decay = (1 + math.cos(math.pi * progress)) / 2
    first = 0
    for group, part in zip(groups, columns, strict=True):
        last = first + group._shape[1]
        group._update(gradient[:, :, first:last], xt[part], decay)
        first = last


def softmax_over_classes(logits: Float[Tensor, "b C H"]) -> None:
    """Softmax over dim 1, in place: the heads lie next to each other, so every operation runs along vectors."""
    logits -= logits.amax(dim=1, keepdim=True)
    logits.exp_()
    logits /= logits.sum(dim=1, keepdim=True)
