"""Sinkhorn-Knopp centering: teacher scores become assignments that use every prototype equally (SwAV; DINOv2's default)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def sinkhorn_knopp(logits: Float[Tensor, "n k"], temperature: float, n_iterations: int = 3) -> Float[Tensor, "n k"]:
    """Soft assignment of n samples to k prototypes with (nearly) uniform use of the prototypes.

    Alternately scales the prototypes to mass 1/k and the samples to mass 1/n; the last scaling is of the samples, so each
    row sums to 1 exactly and each column to n/k only in the limit. Works in the log domain in float32: no temperature
    over- or underflows.

    Args:
        logits: teacher scores of the batch, in any float type.
        temperature: divides the scores; smaller is sharper.
        n_iterations: rounds of scaling.

    Returns:
        float32 [n, k]; an empty batch gives an empty result.

    Source: Cuturi, arXiv:1306.0895; Caron et al., arXiv:2006.09882, Sec. 3.1; `dinov2#loss/dino_clstoken_loss.py`.
    """
    log_q = logits.float() / temperature
    if log_q.shape[0] == 0:
        return log_q
    for _ in range(n_iterations):
        log_q = log_q - torch.logsumexp(log_q, dim=0, keepdim=True)  # prototypes: every column has the same mass
        log_q = log_q - torch.logsumexp(log_q, dim=1, keepdim=True)  # samples: every row sums to 1
    return log_q.exp()


class SinkhornCentering(nn.Module):
    """Stateless module over ``sinkhorn_knopp``, interchangeable with ``SoftmaxCentering``."""

    def __init__(self, n_iterations: int = 3) -> None:
        super().__init__()
        self.n_iterations = n_iterations

    def forward(self, logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
        """Teacher probabilities of a batch."""
        return sinkhorn_knopp(logits, temperature, self.n_iterations)
