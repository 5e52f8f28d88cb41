"""Attention pooling with learned queries, then a linear classifier: what the attentive probe trains."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class AttentiveHead(nn.Module):
    """One query an attention head over the patch tokens of an image, then a linear layer.

    Multi-head attention with a learned query q, keys ``W_k t`` and values ``W_v t`` scores a token by
    ``(W_k.T q) . t`` and averages values that are linear in the tokens. So the same functions come from one vector in the
    space of the tokens for each head, and from projecting the average instead of every token: p times cheaper.

    Args:
        dim: d, of a token; a multiple of ``n_heads``.
        n_classes: C.
        n_heads: attention heads.
        generator: of the first weights, on the CPU.
    """

    def __init__(self, dim: int, n_classes: int, n_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n_heads, dim, generator=generator) * 0.02)
        self.values = nn.Parameter(torch.randn(n_heads, dim, dim // n_heads, generator=generator) * dim**-0.5)
        self.weight = nn.Parameter(torch.randn(n_classes, dim, generator=generator) * 0.01)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, tokens: Float[Tensor, "b p d"]) -> Float[Tensor, "b C"]:
        """Logits."""
        attention = torch.einsum("bpd,hd->bhp", tokens, self.queries).softmax(dim=2)
        pooled = torch.einsum("bhp,bpd->bhd", attention, tokens)
        projected: Tensor = torch.einsum("bhd,hde->bhe", pooled, self.values).flatten(1)
        return projected @ self.weight.T + self.bias
