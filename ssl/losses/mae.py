"""MAE's loss: squared error of the pixels of hidden patches, each patch normalized by itself."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_EPS = 1e-6  # of the variance: a patch of one color


def mae_loss(
    predicted: Float[Tensor, "m p"], pixels: Float[Tensor, "m p"], normalize: bool = True
) -> Float[Tensor, ""]:
    """Mean squared error over the values of the hidden patches.

    Args:
        predicted: of the m hidden patches of the batch; made float32 inside.
        pixels: what was hidden there; p = height x width x channels of a patch.
        normalize: predict (x - mean) / sqrt(variance + 1e-6) of each patch (unbiased variance), as the paper's best.

    Returns:
        0 (with a gradient of 0) when nothing is hidden.

    Source: He et al., arXiv:2111.06377, Sec. 3 ("Reconstruction target"); `mae#models_mae.py`, forward_loss.
    """
    target = pixels.detach().float()
    if normalize:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (variance + _EPS).sqrt()
    return (predicted.float() - target).square().sum() / max(1, target.numel())


class MAELoss(nn.Module):
    """Thin module over ``mae_loss``."""

    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, predicted: Float[Tensor, "m p"], pixels: Float[Tensor, "m p"]) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return mae_loss(predicted, pixels, self.normalize)
