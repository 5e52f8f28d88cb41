"""What the encoders that run a network share: pooling of its tokens, precision, device, and their description."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.curation.encoders.base import l2_normalize, weights_sha256
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool

Precision = Literal["float32", "bfloat16", "float16"]


class NetworkEncoder(ABC):
    """A frozen network in eval mode.

    Args:
        module: the network.
        input_shape: (c, h, w) of one transformed item; one blank item is run to learn ``dim`` and to try the pooling.
        pooling: how tokens become one vector; the sub-class does it in ``pooled``.
        normalize: scale embeddings to unit length.
        precision: float32 computes as the weights are; the others run the network under autocast (faster on a GPU).
    """

    name: str

    def __init__(
        self, module: nn.Module, input_shape: tuple[int, ...], pooling: str, normalize: bool, precision: Precision
    ) -> None:
        if precision not in ("float32", "bfloat16", "float16"):
            raise ConfigError("encoder.precision", f"{precision!r} is unknown", "use float32, bfloat16 or float16")
        self.module = module.eval().requires_grad_(False)
        self.pooling, self.normalize, self.precision = pooling, normalize, precision
        self.device = torch.device("cpu")
        self._sha256: str | None = None
        with torch.no_grad():
            self._dim = self.pooled(torch.zeros(1, *input_shape)).shape[1]

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @abstractmethod
    def pooled(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Run the network and pool its tokens. Raises a ConfigError where the network has no such tokens."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the sub-class adds to ``describe``: model, transform, and how it was opened."""

    def fit(self, pool: Pool, work_dir: Path) -> None:  # noqa: B027
        """Nothing to learn."""

    def encode(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Embeddings in float32, on the encoder's device."""
        reduced = self.precision != "float32"
        dtype = getattr(torch, self.precision) if reduced else None
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=reduced):
            features = self.pooled(batch.to(self.device, non_blocking=True)).float()
        return l2_normalize(features) if self.normalize else features

    def describe(self) -> dict[str, Any]:
        """See Encoder."""
        if self._sha256 is None:
            self._sha256 = weights_sha256(self.module)
        return {
            "name": self.name,
            "weights_sha256": self._sha256,
            "pooling": self.pooling,
            "normalization": "l2" if self.normalize else None,
            "precision": self.precision,
            **self.identity(),
        }

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self


def pool_tokens(
    tokens: Float[Tensor, "b t d"], n_prefix: int, has_cls: bool, pooling: Literal["cls", "avg", "cls_avg"]
) -> Float[Tensor, "b e"]:
    """One vector from the tokens of a transformer.

    Args:
        tokens: [b, n_prefix + patches, d], after the network's last norm.
        n_prefix: tokens before the patches: class token and registers.
        has_cls: whether the first of them is a class token.
        pooling: "cls", "avg" (mean of the patches only), or "cls_avg" (both, concatenated: e = 2 d, as in DINOv2's
            linear protocol, `facebookresearch/dinov2#dinov2/eval/linear.py`).

    Raises:
        ConfigError: there is no class token to take.
    """
    if pooling != "avg" and not has_cls:
        raise ConfigError("encoder.pooling", f"{pooling!r} but this network has no class token", "use avg or model")
    average = tokens[:, n_prefix:].mean(dim=1)
    if pooling == "avg":
        return average
    return tokens[:, 0] if pooling == "cls" else torch.cat([tokens[:, 0], average], dim=1)
