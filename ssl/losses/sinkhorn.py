"""Sinkhorn-Knopp centering: teacher scores become assignments that use every prototype equally (SwAV; DINOv2's default)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.ssl.losses.group import all_max, all_sum


@torch.no_grad()
def sinkhorn_knopp(logits: Float[Tensor, "n k"], temperature: float, n_iterations: int = 3) -> Float[Tensor, "n k"]:
    """Soft assignment of n samples to k prototypes with (nearly) uniform use of the prototypes.

    Alternately scales the prototypes to mass 1/k and the samples to mass 1/n; the last scaling is of the samples, so each
    row sums to 1 and each column to n/k only in the limit. The samples are those of all processes.

    The first round runs in the log domain, so that no temperature over- or underflows. After it every column holds
    an entry of at least 1/(n k), and the rounds that follow are two matrix-vector products each: they move a scale per
    row and per column, not the matrix.

    Args:
        logits: this process's teacher scores, in any float type; possibly none.
        temperature: divides the scores; smaller is sharper.
        n_iterations: rounds of scaling.

    Returns:
        float32 [n, k].

    Source: Cuturi, arXiv:1306.0895; Caron et al., arXiv:2006.09882, Sec. 3.1; `dinov2#loss/dino_clstoken_loss.py`.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = logits.float() / temperature
        q = (scores - _column_logsumexp(scores)).softmax(dim=1)  # columns, then rows
        row_scale = q.new_ones(q.shape[0])
        for _ in range(n_iterations - 1):
            mass = all_sum(torch.mv(q.T, row_scale))  # of each column
            column_scale = mass.mean() / mass  # the mean keeps the scales near 1 over many rounds
            row_scale = 1.0 / torch.mv(q, column_scale)
        if n_iterations > 1:
            q.mul_(column_scale).mul_(row_scale.unsqueeze(1))
        return q


def _column_logsumexp(scores: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """log of the sum of exp over the samples of all processes."""
    lowest = scores.new_full((scores.shape[1],), torch.finfo(scores.dtype).min)
    largest = all_max(scores.amax(dim=0) if len(scores) else lowest)  # a process may have no sample
    return all_sum((scores - largest).exp_().sum(dim=0)).log_() + largest


class SinkhornCentering(nn.Module):
    """Stateless module over ``sinkhorn_knopp``, interchangeable with ``SoftmaxCentering``."""

    def __init__(self, n_iterations: int = 3) -> None:
        super().__init__()
        self.n_iterations = n_iterations

    def forward(self, logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
        """Teacher probabilities of a batch."""
        return sinkhorn_knopp(logits, temperature, self.n_iterations)
