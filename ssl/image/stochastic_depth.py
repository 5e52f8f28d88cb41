"""Stochastic depth that skips the work: a residual is computed for the images that keep it, and for no other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from timm.models.vision_transformer import Block
from torch import Generator, Tensor, nn

from strata.ssl.image.share import Share

Rows = Int64[Tensor, " r"]


def drop_rates(rate: float, depth: int, uniform: bool) -> list[float]:
    """Share of images that leave a block's residuals out: ``rate`` in each block, or rising from 0 to it."""
    return [rate if uniform or depth == 1 else rate * i / (depth - 1) for i in range(depth)]


def draw_kept(
    rates: Sequence[float], views: int, share: Share, generator: Generator
) -> Bool[Tensor, "depth 2 views*b"] | None:
    """Which crops keep the attention and the MLP of each block; None if all do. Crops are view-major."""
    if not any(rates):
        return None
    draws = torch.rand(len(rates), 2, views, share.total, generator=generator)
    kept = draws >= torch.tensor(rates).view(-1, 1, 1, 1)
    return kept[..., share.first : share.last].flatten(2)


@dataclass
class Plan:
    """What a pass through the blocks leaves out. Row numbers are of images, in the last MLP of tokens if ``read`` is set.

    ``read`` holds the places in [b * tokens] that anyone will look at: the last MLP is computed for these only.
    """

    read: Rows | None = None
    attend: list[Rows | None] = field(default_factory=list)  # of each block; None = all
    feed: list[Rows | None] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)  # 1 / (1 - rate)


def make_plan(
    rates: Sequence[float],
    kept: Bool[Tensor, "depth 2 b"] | None,
    read: Rows | None,
    tokens: int,
    device: torch.device,
) -> Plan:
    """Turn draws into row numbers on the device, in one transfer and without waiting for it.

    Args:
        rates: of each block, as for ``draw_kept``.
        kept: from ``draw_kept``, on the CPU.
        read: on the CPU; None = all tokens.
        tokens: of an image, CLS and registers among them.
        device: where the blocks are.
    """
    depth = len(rates)
    everything: list[Rows | None] = [None] * depth
    if kept is None:
        return Plan(None if read is None else _moved(read, device), everything, everything, [1.0] * depth)
    rows = [row.nonzero().flatten() for row in kept.flatten(0, 1)]
    if read is not None:
        rows[-1] = kept[-1, 1][read // tokens].nonzero().flatten()
    pieces = rows if read is None else [*rows, read]
    moved = _moved(torch.cat(pieces), device).split([len(piece) for piece in pieces])
    attend: list[Rows | None] = list(moved[0 : 2 * depth : 2])
    feed: list[Rows | None] = list(moved[1 : 2 * depth : 2])
    return Plan(None if read is None else moved[-1], attend, feed, [1.0 / (1.0 - rate) for rate in rates])


def _moved(rows: Rows, device: torch.device) -> Rows:
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows.to(device)


class SparseBlock(Block):
    """timm's block, same parameters, that computes only what is asked for."""

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "b n d"],
        attend: Rows | None = None,
        feed: Rows | None = None,
        scale: float = 1.0,
        read: Rows | None = None,
    ) -> Float[Tensor, "b n d"] | Float[Tensor, "m d"]:
        """The block's output, or that of the tokens ``read`` (places in [b * n]).

        Args:
            x: tokens.
            attend: images that keep the attention's residual; None = all.
            feed: images (with ``read``: positions in it) that keep the MLP's.
            scale: on kept residuals where ``attend`` or ``feed`` is given.
            read: tokens whose output is wanted; attention still sees all.
        """
        x = _add(x, attend, scale, self.norm1, self.attn, self.ls1)
        if read is not None:
            x = x.flatten(0, 1)[read]
        return _add(x, feed, scale, self.norm2, self.mlp, self.ls2)


def _add(x: Tensor, rows: Rows | None, scale: float, *layers: nn.Module) -> Tensor:
    """x + scale * layers(x), for the rows alone."""
    y = x if rows is None else x[rows]
    for layer in layers:
        y = layer(y)
    return x + y if rows is None else x.index_add(0, rows, y.to(x.dtype), alpha=scale)
