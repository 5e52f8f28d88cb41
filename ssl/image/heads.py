"""Prototype head: MLP to a bottleneck, L2 norm, then cosines with the prototypes (DINO's head)."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Prototypes(nn.Module):
    """Cosine of unit vectors with k learned unit vectors: a weight-normed linear layer with its gain at 1.

    Args:
        dim: of the vectors.
        n_prototypes: k.
        learned_gain: the gain of each prototype starts at 1 and is learned, as in dinov2; else it stays 1, as in DINO.
    """

    def __init__(self, dim: int, n_prototypes: int, learned_gain: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_prototypes, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.gain = nn.Parameter(torch.ones(n_prototypes, 1)) if learned_gain else None

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Scores, in [-1, 1] while the gain is 1."""
        weight = F.normalize(self.weight, dim=-1)
        return F.linear(x, weight if self.gain is None else weight * self.gain)


class PrototypeHead(nn.Module):
    """Maps backbone features to scores over prototypes.

    Args:
        dim: of the features.
        hidden: width of the MLP.
        bottleneck: dimension in which features and prototypes meet.
        n_prototypes: k.
        n_layers: linear layers of the MLP, the bottleneck's among them.
        learned_gain: see ``Prototypes``.

    Source: Caron et al., arXiv:2104.14294, App. C; `dinov2#layers/dino_head.py`.
    """

    def __init__(
        self, dim: int, hidden: int, bottleneck: int, n_prototypes: int, n_layers: int = 3, learned_gain: bool = False
    ) -> None:
        super().__init__()
        widths = [dim] + [hidden] * (n_layers - 1) + [bottleneck]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_layer = Prototypes(bottleneck, n_prototypes, learned_gain)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                # dinov2's 0.02 is 1/sqrt(fan in) at its width of 2048; narrower layers need more to pass a signal
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Scores of each row."""
        x = F.normalize(self.mlp(x).float(), dim=-1, eps=1e-6)  # a norm of bfloat16 numbers is off by a percent
        return self.last_layer(x)
