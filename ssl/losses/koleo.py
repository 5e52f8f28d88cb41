"""KoLeo: pushes each feature away from its nearest neighbor, towards a uniform spread on the sphere."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.ssl.losses.group import all_rows, world_size


def koleo_loss(features: Float[Tensor, "n d"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """-mean_i log(||x_i - x_nn(i)|| + eps) of L2-normalized features, nn(i) being the nearest other row.

    Always in float32, with autocast off: in half precision the distance of near neighbors is lost (dinov2#314).
    Safe on what breaks other implementations: fewer than two rows give 0 (a row has no neighbor), and exact duplicates
    give a finite loss with a zero gradient for that pair (the direction in which to part them is undefined).

    Args:
        features: un-normalized features of one view of each image (never two views of one image).
        eps: bounds the loss of a duplicate to -log(eps).

    Source: Sablayrolles et al., arXiv:1806.03198, eq. 4; DINOv2, arXiv:2304.07193, Sec. 4.
    """
    return grouped_koleo_loss(features.unsqueeze(0), eps)


def grouped_koleo_loss(features: Float[Tensor, "g n d"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """Mean of ``koleo_loss`` over g groups of n rows: neighbors are sought within a group."""
    if features.shape[0] == 0 or features.shape[1] < 2:
        return features.float().sum() * 0.0  # keeps the graph, so backward works
    with torch.autocast(features.device.type, enabled=False):
        x = torch.nn.functional.normalize(features.float(), dim=-1, eps=eps)  # g n d
        with torch.no_grad():
            cosine = x @ x.mT  # g n n
            cosine.diagonal(dim1=1, dim2=2).fill_(-2.0)
            nearest = cosine.argmax(dim=2, keepdim=True)  # g n 1
        squared = (x - x.gather(1, nearest.expand_as(x))).square().sum(dim=-1)
        apart = squared > 0
        # sqrt has an infinite slope at 0, and inf * 0 = NaN: duplicates take the constant branch before the root
        distance = torch.where(apart, squared, 1.0).sqrt() * apart
        return -(distance + eps).log().mean()


class KoLeoLoss(nn.Module):
    """KoLeo of a batch that may lie on several processes.

    Args:
        group: images among which neighbors are sought, in the batch's order. 0 = all images of all processes. The loss
            does not depend on how many processes there are; where ``group`` divides each one's share, nothing is sent.
        eps: see ``koleo_loss``.
    """

    def __init__(self, group: int = 0, eps: float = 1e-8) -> None:
        super().__init__()
        self.group, self.eps = group, eps

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of this process's features, the same number on each; the mean over processes is that of the batch.

        Where features are gathered, every process returns the loss of the whole batch, and the gradient that reaches its
        own rows is ``world`` times that of the loss, which the averaging of gradients over processes undoes.
        """
        if world_size() > 1 and (self.group == 0 or len(features) % self.group):
            features = all_rows(features.float())
        groups = features.unflatten(0, (-1, self.group)) if self.group else features.unsqueeze(0)
        return grouped_koleo_loss(groups, self.eps)
