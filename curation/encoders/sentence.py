"""Any text model of transformers with safetensors weights, its tokens averaged: Sentence-BERT's way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.encoders.base import l2_normalize, weights_sha256
from strata.curation.encoders.network import Precision
from strata.curation.encoders.pretrained import open_pretrained
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind


class SentenceEncoder:
    """Mean of the last hidden states over the tokens of a text (arXiv:1908.10084, section 3; the special tokens count).

    The paper (arXiv:2405.15613, section 4.1) embeds text with ``sentence-transformers/all-mpnet-base-v2``, which is
    pooled and normalized so. Documents longer than ``max_tokens`` are cut; the paper does not say what it did.

    Args:
        model: hub id, or a folder with ``config.json``, tokenizer files and ``model.safetensors``.
        revision: branch, tag or commit on the hub: pin it, so that the same name stays the same weights.
        local_files_only: never connect; take what the cache has.
        pooling: "mean", or "cls" (first token).
        max_tokens: tokens of a text that are read; None: as the model's tokenizer says.
        normalize: scale embeddings to unit length.
        precision: float32, or bfloat16 or float16 (autocast, faster on a GPU).

    Raises:
        ConfigError: the model cannot be found or downloaded, or lacks weights or a tokenizer.
    """

    name = "sentence"
    reads: ClassVar[Kind] = "text"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        local_files_only: bool = False,
        pooling: Literal["mean", "cls"] = "mean",
        max_tokens: int | None = 384,
        normalize: bool = True,
        precision: Precision = "float32",
    ) -> None:
        if pooling not in ("mean", "cls"):
            raise ConfigError("encoder.pooling", f"{pooling!r} is unknown", "use mean or cls")
        if precision not in ("float32", "bfloat16", "float16"):
            raise ConfigError("encoder.precision", f"{precision!r} is unknown", "use float32, bfloat16 or float16")
        self.model, self.revision, self.pooling = model, revision, pooling
        self.normalize, self.precision = normalize, precision
        self.module, tokenizer = open_pretrained(
            model, revision, local_files_only or Path(model).is_dir(), "AutoTokenizer",
            fix="check the name and the connection, give a local folder, or use encoder=hashed_text",
        )  # fmt: skip
        positions = getattr(self.module.config, "max_position_embeddings", None)
        limits = [limit for limit in (max_tokens, tokenizer.model_max_length, positions) if limit]
        if min(limits) < 3:
            raise ConfigError("encoder.max_tokens", f"{max_tokens}", "use 3 or more")
        self._transform = Tokens(tokenizer, min(limits))
        self.device = torch.device("cpu")
        self.commit: str | None = getattr(self.module.config, "_commit_hash", None)
        self._dim = self.encode([self._transform("a")]).shape[1]
        self._sha256: str | None = None

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @property
    def transform(self) -> Callable[[str], list[int]]:
        """Text -> token ids, special ones included."""
        return self._transform

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Nothing to learn."""

    def encode(self, batch: Sequence[list[int]]) -> Float[Tensor, "b d"]:
        """Embeddings in float32, on the encoder's device.

        A batch is cut into buckets of texts of like length, so that a short one is not padded to the longest. What
        padding is left is masked, so a bucket moves an embedding in its last bits only.
        """
        order = sorted(range(len(batch)), key=lambda place: len(batch[place]))
        parts = [self._encode([batch[place] for place in bucket]) for bucket in _buckets(order, batch)]
        back = torch.tensor(order, device=self.device).argsort()
        return torch.cat(parts)[back]

    def _encode(self, batch: Sequence[list[int]]) -> Float[Tensor, "b d"]:
        length = max(len(tokens) for tokens in batch)
        padding = self._transform.padding
        ids = torch.tensor([tokens + [padding] * (length - len(tokens)) for tokens in batch], device=self.device)
        kept = torch.tensor([[1] * len(tokens) + [0] * (length - len(tokens)) for tokens in batch], device=self.device)
        reduced = self.precision != "float32"
        dtype = getattr(torch, self.precision) if reduced else None
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=reduced):
            states = self.module(input_ids=ids, attention_mask=kept).last_hidden_state.float()
        if self.pooling == "cls":
            features: Tensor = states[:, 0]
        else:
            features = (states * kept[..., None]).sum(dim=1) / kept.sum(dim=1, keepdim=True)
        return l2_normalize(features) if self.normalize else features

    def describe(self) -> dict[str, Any]:
        """See Encoder."""
        if self._sha256 is None:
            self._sha256 = weights_sha256(self.module)
        return {
            "name": self.name,
            "model": self.model,
            "revision": self.revision,
            "commit": self.commit,
            "weights_sha256": self._sha256,
            "pooling": self.pooling,
            "normalization": "l2" if self.normalize else None,
            "precision": self.precision,
            "transform": {"tokenizer": type(self._transform.tokenizer).__name__, "max_tokens": self._transform.limit},
        }

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self


@dataclass(frozen=True)
class Tokens:
    """A tokenizer as a transform of one text."""

    tokenizer: Any
    limit: int

    @property
    def padding(self) -> int:
        """Id of the padding token; where there is none any will do, for it is masked."""
        return self.tokenizer.pad_token_id or 0

    def __call__(self, text: str) -> list[int]:
        """Token ids, at most ``limit``."""
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.limit)["input_ids"]
        return ids or [self.padding]


def _buckets(order: Sequence[int], batch: Sequence[list[int]]) -> Iterator[list[int]]:
    """Places in order of length, cut where a text is over a quarter (and 8 tokens) longer than the bucket's first."""
    bucket: list[int] = []
    for place in order:
        if bucket and len(batch[place]) > 1.25 * len(batch[bucket[0]]) + 8:
            yield bucket
            bucket = []
        bucket.append(place)
    yield bucket
