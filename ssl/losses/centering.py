"""Softmax centering: subtract a running mean of the teacher's scores, then sharpen (DINO)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.ssl.losses.group import all_sum


@torch.no_grad()
def softmax_center(
    logits: Float[Tensor, "n k"], center: Float[Tensor, " k"], temperature: float
) -> Float[Tensor, "n k"]:
    """softmax((logits - center) / temperature), in float32. Source: Caron et al., arXiv:2104.14294, Sec. 3.1, eq. 4."""
    with torch.autocast(logits.device.type, enabled=False):
        return torch.softmax((logits.float() - center) / temperature, dim=-1)


class SoftmaxCentering(nn.Module):
    """Keeps the running center. The probabilities of a batch use the center as it was before that batch.

    Args:
        n_prototypes: k.
        momentum: of the running mean; DINO's and DINOv2's value is 0.9.
    """

    center: Tensor

    def __init__(self, n_prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(n_prototypes))

    def forward(self, logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
        """Teacher probabilities of a batch; then moves the center towards the mean of all processes' rows, if any."""
        probabilities = softmax_center(logits, self.center, temperature)
        if self.training:
            self._move(logits.detach().float())
        return probabilities

    def _move(self, logits: Float[Tensor, "n k"]) -> None:
        total = all_sum(
            torch.cat([logits.sum(dim=0), logits.new_full((1,), len(logits))])
        )  # sum and count: one message
        count = total[-1]
        mean = total[:-1] / count.clamp(min=1.0)
        # No `if`: whether any process has a row is known on the device only
        self.center.lerp_(mean, (1.0 - self.momentum) * (count > 0))


class NoCentering(nn.Module):
    """Sharpening alone: softmax(logits / temperature). It collapses to one prototype; for ablations and tests of the alarm.

    Source: Caron et al., arXiv:2104.14294, Sec. 5.3.
    """

    def forward(self, logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
        """Teacher probabilities of a batch."""
        return softmax_center(logits, logits.new_zeros(logits.shape[1]), temperature)
