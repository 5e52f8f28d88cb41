"""A DPT decoder on frozen tokens of several blocks: transformers' neck (reassemble, fuse), and a head to the map's size.

Source: Ranftl et al., arXiv:2103.13413, section 3; as the canopy height model uses it,
facebookresearch/HighResCanopyHeight#models/dpt_head.py (tokens joined with the class token, four reassembled maps, fusion
from the last to the first, two convolutions around an upsampling).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DecoderShape:
    """Widths and scales.

    Attributes:
        factors: side of each block's map over that of the grid of patches, first block first; one block each.
        widths: channels of these maps.
        fusion: channels of the fused maps.
        head: channels of the last hidden layer.
        readout: how the class token comes in: "project" (joined with every patch token, as DPT), "add", or "ignore".
        dropout: share of the channels of the standardized tokens that is hidden in training, the same for all patches.
    """

    factors: Sequence[float]
    widths: Sequence[int]
    fusion: int
    head: int
    readout: Literal["ignore", "add", "project"] = "project"
    dropout: float = 0.0

    def output(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of what the head gives: fusion doubles the last map once a block, and the head once more."""
        last, doubled = self.factors[-1], 2 ** (len(self.factors) + 1)
        rows, columns = (int(side * last) if last >= 1 else -(-side // round(1 / last)) for side in grid)
        return rows * doubled, columns * doubled


class DPTDecoder(nn.Module):
    """From standardized tokens of B blocks to K outputs for each pixel.

    Args:
        mean: of the tokens as ``DenseData.tokens`` gives them, [2 * B * d]: patch tokens of the blocks, then class tokens.
        scale: likewise.
        grid: rows and columns of the patches.
        shape: of the decoder; B is the number of its factors.
        n_outputs: K.
        seed: of the first weights.
    """

    def __init__(
        self,
        mean: Float[Tensor, " w"],
        scale: Float[Tensor, " w"],
        grid: tuple[int, int],
        shape: DecoderShape,
        n_outputs: int,
        seed: int,
    ) -> None:
        super().__init__()
        from transformers import DPTConfig
        from transformers.models.dpt.modeling_dpt import DPTNeck

        self.mean: Tensor
        self.scale: Tensor
        self.grid, self.blocks, self.size = grid, len(shape.factors), shape.output(grid)
        self.dropout = shape.dropout
        self.register_buffer("mean", mean.cpu())
        self.register_buffer("scale", scale.cpu())
        config = DPTConfig(
            hidden_size=len(mean) // (2 * self.blocks),
            is_hybrid=False,
            readout_type=shape.readout,
            reassemble_factors=list(shape.factors),
            neck_hidden_sizes=list(shape.widths),
            fusion_hidden_size=shape.fusion,
            neck_ignore_stages=[],
        )
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.neck = DPTNeck(config)
            self.narrow = nn.Conv2d(shape.fusion, shape.fusion // 2, 3, padding=1)
            self.head = nn.Sequential(
                nn.Conv2d(shape.fusion // 2, shape.head, 3, padding=1), nn.ReLU(), nn.Conv2d(shape.head, n_outputs, 1)
            )

    def forward(self, tokens: Float[Tensor, "b p w"]) -> Float[Tensor, "b k h w"]:
        """Outputs at the decoder's own size."""
        x = (tokens - self.mean) / self.scale
        x = F.dropout1d(x.transpose(1, 2), self.dropout, self.training).transpose(1, 2)
        patches, cls = x.chunk(2, dim=2)
        prefix = cls[:, :1].unflatten(2, (self.blocks, -1))  # b 1 B d: the same beside every patch
        states = [
            torch.cat([prefix[:, :, block], part], dim=1)
            for block, part in enumerate(patches.chunk(self.blocks, dim=2))
        ]  # B x [b, 1 + p, d]
        fused = self.narrow(self.neck(states, *self.grid)[-1])
        outputs: Tensor = self.head(F.interpolate(fused, size=self.size, mode="bilinear", align_corners=True))
        return outputs
