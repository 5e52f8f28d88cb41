"""KoLeo: pushes each feature away from its nearest neighbour in the batch, towards a uniform spread on the sphere."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def koleo_loss(features: Float[Tensor, "n d"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """-mean_i log(||x_i - x_nn(i)|| + eps) of L2-normalised features, nn(i) being the nearest other row.

    Always in float32, with autocast off: in half precision the distance of near neighbours is lost (dinov2#314).
    Safe on what breaks other implementations: fewer than two rows give 0 (a row has no neighbour), and exact duplicates
    give a finite loss with a zero gradient for that pair (the direction in which to part them is undefined).

    Args:
        features: un-normalised features of one view of each image (never two views of one image).
        eps: bounds the loss of a duplicate to -log(eps).

    Source: Sablayrolles et al., arXiv:1806.03198, eq. 4; DINOv2, arXiv:2304.07193, Sec. 4.
    """
    if features.shape[0] < 2:
        return features.float().sum() * 0.0  # keeps the graph, so backward works
    with torch.autocast(features.device.type, enabled=False):
        x = torch.nn.functional.normalize(features.float(), dim=-1, eps=eps)  # n d
        with torch.no_grad():
            cosine = x @ x.T
            nearest = cosine.fill_diagonal_(-2.0).argmax(dim=1)  # n
        squared = (x - x[nearest]).square().sum(dim=-1)
        apart = squared > 0
        # sqrt has an infinite slope at 0, and inf * 0 = NaN: duplicates take the constant branch before the root
        distance = torch.where(apart, squared, 1.0).sqrt() * apart
        return -(distance + eps).log().mean()


class KoLeoLoss(nn.Module):
    """Thin module over ``koleo_loss``."""

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return koleo_loss(features, self.eps)
