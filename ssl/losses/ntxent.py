"""NT-Xent, SimCLR's loss: find the other view of the same image among all views of the batch."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from strata.ssl.losses.group import all_rows, world_size


def nt_xent_loss(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Mean over 2b views of -log softmax(cosine to the other view of its image), among all 2B - 1 others of the batch.

    With several processes the views of all of them are compared (B = b x processes), and gradients flow back to where a
    view came from: the mean of the processes' losses and gradients is that of one process with all the images.

    Args:
        first, second: two views of each image, not normalized; made float32 inside.
        temperature: divides the cosines.

    Returns:
        0 (with a gradient of 0) for a single image: there is nothing to tell it from.

    Source: Chen et al., arXiv:2002.05709, eq. 1 and Algorithm 1.
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = (F.normalize(x.float(), dim=-1) for x in (first, second))
        everyone = torch.cat([all_rows(a), all_rows(b)])  # 2B d
        batch, total = len(a), len(everyone) // 2
        rank = dist.get_rank() if world_size() > 1 else 0
        own = torch.arange(rank * batch, (rank + 1) * batch, device=a.device)  # place of each image in the whole batch
        logits = torch.cat([a, b]) @ everyone.T / temperature  # 2b 2B
        itself = torch.cat([own, own + total]).unsqueeze(1)
        logits = logits.scatter(1, itself, -torch.inf)
        return F.cross_entropy(logits, torch.cat([own + total, own]))


class NTXentLoss(nn.Module):
    """Thin module over ``nt_xent_loss``."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, first: Float[Tensor, "b d"], second: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """The loss of a batch."""
        return nt_xent_loss(first, second, self.temperature)
