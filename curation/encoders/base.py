"""What every encoder is: a transform per item, an encode per batch, and an exact description of both."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.pools.base import Pool


@runtime_checkable
class Encoder(Protocol):
    """Turns items of a pool into vectors. Opened by the constructor, which raises a ConfigError when it cannot be.

    ``describe()`` holds at least ``name``, ``model``, ``weights_sha256``, ``pooling``, ``normalization`` ("l2" or None)
    and ``transform``: the *resolved* one, with ``size``, ``interpolation``, ``crop``, ``mean`` and ``std``. It is
    JSON-able, and the same before and after ``fit``. An encoder of texts has an attribute ``reads = "text"``, and its
    batches are lists of what ``transform`` makes of a text.
    """

    name: str

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def transform(self) -> Callable[[Any], Any]:
        """Item -> tensor ([c, h, w] for images), the same shape for all. Sent to worker processes: keep it small."""
        ...

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Learn what must be learned from the pool, saving it in ``work_dir``; do not learn again what is there."""
        ...

    def encode(self, batch: Any) -> Float[Tensor, "b d"]:
        """Embeddings of a batch of transformed items (on any device), on the encoder's device."""
        ...

    def describe(self) -> dict[str, Any]:
        """All that fixes the embeddings: goes into the manifest."""
        ...

    def to(self, device: str | torch.device) -> Self:
        """Move the work of ``encode`` to a device."""
        ...


def l2_normalize(features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Scale rows to unit length. A zero row becomes NaN, which the store refuses by name, instead of staying zero."""
    return features / features.norm(dim=1, keepdim=True)


def weights_sha256(module: torch.nn.Module) -> str:
    """Digest of all parameters and buffers (name, dtype, shape, bytes), in name order: the same for any file layout."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
