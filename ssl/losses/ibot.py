"""iBOT's loss on masked patches: the student, who sees a mask token, predicts what the teacher sees there."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def ibot_loss(
    student_logits: Float[Tensor, "m k"],
    teacher_probs: Float[Tensor, "m k"],
    weights: Float[Tensor, " m"],
    n_images: int,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Cross-entropy of each masked patch, averaged within an image, then over all images of the batch.

    Images without a mask count in the average (with 0), as in DINOv2.

    Args:
        student_logits: scores of the m masked patches of the batch; made float32 inside.
        teacher_probs: rows sum to 1; no gradient flows into them.
        weights: 1 / (number of masked patches in this patch's image).
        n_images: number of global crops in the batch, masked or not.
        temperature: of the student's softmax.

    Returns:
        0 (with a gradient of 0) when nothing is masked.

    Source: Zhou et al., arXiv:2111.07832, eq. 2; `dinov2#loss/ibot_patch_loss.py`.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        log_p = torch.log_softmax(student_logits.float() / temperature, dim=-1)
        cross_entropy = -(teacher_probs.detach().float() * log_p).sum(dim=-1)  # m
        return (cross_entropy * weights.float()).sum() / n_images


class IBOTLoss(nn.Module):
    """Thin module over ``ibot_loss``."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self,
        student_logits: Float[Tensor, "m k"],
        teacher_probs: Float[Tensor, "m k"],
        weights: Float[Tensor, " m"],
        n_images: int,
    ) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return ibot_loss(student_logits, teacher_probs, weights, n_images, self.temperature)
