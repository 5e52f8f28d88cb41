"""Networks of timm: vision transformers by their tokens, all others by their own pooling."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from jaxtyping import Float
from PIL import Image
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from strata.curation.errors import ConfigError
from strata.eval.backbones.base import MAX_BLOCKS, Network, Tokens

TRANSFORMERS = (VisionTransformer, Eva, Beit)  # their forward_intermediates gives prefix and patch tokens


class TimmNetwork(Network):
    """A network of timm on the transform that goes with its weights.

    Tokens are read after the final norm, of every block. A network is read by its own pooling where it is no vision
    transformer, or has its norm behind the pooling (``global_pool=avg``), so that its blocks cannot be normalized.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: Callable[[Image.Image], Tensor],
        described: dict[str, Any],
        input_size: tuple[int, int],
    ) -> None:
        self.module, self.transform, self._described = module, transform, described
        self.items = described.get("reads", "images")
        self.n_blocks, has_tokens = probed(module)
        self.dim = int(module.num_features)  # type: ignore[arg-type]
        self.grid = _grid(module, input_size) if has_tokens else None
        if not has_tokens:
            self.reads = "pooled features"
            with torch.no_grad():
                self.dim = int(module(torch.zeros(1, 3, *input_size)).shape[1])
        else:
            self.reads = "mean patch token" if getattr(module, "cls_token", None) is None else "class token"

    def read(self, batch: Float[Tensor, "b 3 h w"]) -> Tokens:
        """Source: ``get_intermediate_layers`` with norm, as used by facebookresearch/dinov2#dinov2/eval/utils.py."""
        if self.grid is None:
            return Tokens(self.module(batch)[:, None], None)
        blocks = self.module.forward_intermediates(  # type: ignore[operator]
            batch,
            indices=self.n_blocks,
            norm=True,
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )  # per block: patch tokens [b, p, d], and prefix tokens [b, q, d] (class token, then registers) where it has any
        pairs = [block if isinstance(block, tuple) else (block, None) for block in blocks]
        patches = torch.stack([patches for patches, _ in pairs], dim=1)
        if self.reads == "mean patch token":
            return Tokens(patches.mean(dim=2), patches)
        return Tokens(torch.stack([prefix[:, 0] for _, prefix in pairs], dim=1), patches)

    def describe(self) -> dict[str, Any]:
        """See Network."""
        return self._described


def probed(module: nn.Module) -> tuple[int, bool]:
    """How many blocks are read, and whether by tokens."""
    if not isinstance(module, TRANSFORMERS) or isinstance(module.norm, nn.Identity):
        return 1, False
    return min(MAX_BLOCKS, len(module.blocks)), True  # type: ignore[arg-type]


def probed_by_name(name: str) -> tuple[int, bool]:
    """The same of a name of timm, made without memory for its weights; nothing is downloaded.

    Raises:
        ConfigError: there is no such network.
    """
    try:
        with torch.device("meta"):
            module = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        problem = f"timm has no such model {name!r} ({' '.join(str(error).split())[:200]})"
        raise ConfigError("backbone", problem, "see timm.list_models(pretrained=True)") from error
    return probed(module)


def _grid(module: nn.Module, input_size: tuple[int, int]) -> tuple[int, int]:
    rows, columns = module.patch_embed.patch_size  # type: ignore[union-attr,misc]
    return input_size[0] // int(rows), input_size[1] // int(columns)
