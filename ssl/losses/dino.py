"""DINO's loss on the CLS token: cross-entropy between the teacher's view and the student's other views of one image."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def dino_loss(
    student_logits: Float[Tensor, "views b k"], teacher_probs: Float[Tensor, "globals b k"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Mean cross-entropy over all pairs (teacher's global view t, student's view s != t) and all images.

    The student's first views are the teacher's global ones in the same order; local views follow.
    Every pair weighs the same, as in DINOv2: with 2 global and 8 local crops, 2 pairs are global and 16 local.

    Args:
        student_logits: scores of all the student's crops; made float32 inside.
        teacher_probs: rows sum to 1; no gradient flows into them.
        temperature: of the student's softmax.

    Source: Caron et al., arXiv:2104.14294, eq. 2-3; `dinov2#train/ssl_meta_arch.py`.
    """
    with torch.autocast(student_logits.device.type, enabled=False):  # einsum would run in half precision
        log_p = torch.log_softmax(student_logits.float() / temperature, dim=-1)
        n_global, n_views, batch = teacher_probs.shape[0], log_p.shape[0], log_p.shape[1]
        # sum_k of the product of all pairs at once: [globals, views]
        cross_entropy = -torch.einsum("tbk,sbk->ts", teacher_probs.detach().float(), log_p) / batch
    pairs = ~torch.eye(n_global, n_views, dtype=torch.bool, device=log_p.device)  # a view does not predict itself
    return (cross_entropy * pairs).sum() / (n_global * (n_views - 1))  # cross_entropy[pairs] would wait for the device


class DINOLoss(nn.Module):
    """Thin module over ``dino_loss``."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, student_logits: Float[Tensor, "views b k"], teacher_probs: Float[Tensor, "globals b k"]
    ) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return dino_loss(student_logits, teacher_probs, self.temperature)
