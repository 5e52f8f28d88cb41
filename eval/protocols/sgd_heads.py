"""Many linear heads on the same input, one per learning rate, trained together: one GEMM forward, one backward."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


class SGDHeads:
    """H linear classifiers of C classes on inputs of D dims, each with its own peak learning rate.

    The gradient of the mean cross-entropy of a linear head is ``x.T @ (softmax - onehot) / b``: written out, since the
    heads do not touch each other and SGD treats them alike but for the rate. SGD with momentum, no weight decay, cosine
    decay to 0, as in facebookresearch/dinov2#dinov2/eval/linear.py. Weights start as N(0, 0.01), biases as 0; all heads
    start from the same draw, so that a head does not depend on which others are trained beside it.

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
        start = torch.randn(dim, 1, n_classes, generator=torch.Generator().manual_seed(seed)) * 0.01
        n_heads = len(learning_rates)
        self.weight = start.to(device, dtype).repeat(1, n_heads, 1)  # D H C
        self.bias = torch.zeros(n_heads, n_classes, device=device, dtype=dtype)  # H C
        self.momentum = momentum
        self._rates = learning_rates.to(device, dtype)
        self._weight_speed, self._bias_speed = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def logits(self, x: Float[Tensor, "b D"]) -> Float[Tensor, "b H C"]:
        """Logits of every head."""
        return (x @ self.weight.flatten(1)).view(len(x), *self.bias.shape).add_(self.bias)

    def step(self, x: Float[Tensor, "b D"], y: Int[Tensor, " b"], progress: float) -> None:
        """One SGD step of every head.

        Args:
            x: inputs, in the dtype of the heads.
            y: class ids.
            progress: share of the steps already done, 0 at the first step: sets the cosine.
        """
        gradient = self.logits(x).softmax(dim=2)  # b H C
        gradient[torch.arange(len(y), device=y.device), :, y] -= 1
        gradient /= len(y)
        decay = (1 + math.cos(math.pi * progress)) / 2
        rates = -(self._rates * decay)[:, None]  # H 1
        self._bias_speed.mul_(self.momentum).add_(gradient.sum(dim=0))
        self.bias.addcmul_(self._bias_speed, rates)
        weight_gradient = (x.T @ gradient.flatten(1)).view_as(self.weight)
        self._weight_speed.mul_(self.momentum).add_(weight_gradient)
        self.weight.addcmul_(self._weight_speed, rates)
