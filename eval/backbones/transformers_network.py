"""Vision models of transformers: tokens of their blocks where these are tokens of one width, else pooled features."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.encoders.transformers_encoder import TransformersEncoder
from strata.eval.backbones.base import MAX_BLOCKS, Network, Tokens

NORMS = (
    "layernorm",
    "post_layernorm",
    "norm",
    "layer_norm",
)  # the final norm, as DINOv2 and ViT, CLIP, DINOv3, ... call it


class TransformersNetwork(Network):
    """A vision model (or the vision half of CLIP, SigLIP) with its own image processor.

    Hidden states are read after the model's final norm. Of a model that has none, or whose blocks change their width
    or number of tokens (Swin, ConvNeXt, ResNet), the pooled output is read: ``pooler_output``, or the mean of the last
    hidden state.
    """

    def __init__(self, encoder: TransformersEncoder, input_size: tuple[int, int]) -> None:
        self.module, self.transform, self._encoder = encoder.module, encoder.transform, encoder
        self._norm = next((getattr(self.module, name) for name in NORMS if hasattr(self.module, name)), None)
        patch = getattr(self.module.config, "patch_size", None)
        blank = torch.zeros(1, 3, *input_size)
        with torch.no_grad():
            states: Sequence[Tensor] = self.module(pixel_values=blank, output_hidden_states=True).hidden_states or ()
        alike = len({tuple(state.shape) for state in states}) == 1 and states[0].ndim == 3
        self.grid, self._prefix = None, 0
        if alike and self._norm is not None and patch is not None and len(states) > 1:
            rows, columns = (patch, patch) if isinstance(patch, int) else patch
            grid = (input_size[0] // rows, input_size[1] // columns)
            if grid[0] * grid[1] <= states[0].shape[1]:
                self.grid, self._prefix = grid, states[0].shape[1] - grid[0] * grid[1]
        self.n_blocks = min(MAX_BLOCKS, len(states) - 1) if self.grid else 1  # the first state is the embedding
        self.reads = ("class token" if self._prefix else "mean patch token") if self.grid else "pooled features"
        with torch.no_grad():
            self.dim = int(self.read(blank).cls.shape[2])

    def read(self, batch: Float[Tensor, "b 3 h w"]) -> Tokens:
        """See Network."""
        if self.grid is None:
            return Tokens(_pooled(self.module(pixel_values=batch))[:, None], None)
        assert self._norm is not None
        states = self.module(pixel_values=batch, output_hidden_states=True).hidden_states[-self.n_blocks :]
        tokens = torch.stack([self._norm(state) for state in states], dim=1)
        patches = tokens[:, :, self._prefix :]
        return Tokens(tokens[:, :, 0] if self._prefix else patches.mean(dim=2), patches)

    def describe(self) -> dict[str, Any]:
        """See Network."""
        return self._encoder.describe()


def _pooled(output: Any) -> Float[Tensor, "b d"]:
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    last: Tensor = output.last_hidden_state
    return last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
