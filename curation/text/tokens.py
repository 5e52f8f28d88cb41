"""The documents of a pool as token ids, end to end in one memory-mapped array: what trainers and evaluators read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from strata.curation.artifact import create_artifact, read_manifest
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of
from strata.curation.progress import progress as progress_bar
from strata.curation.text.tokenizer import encode_texts, one_thread_tokenizer, open_tokenizer

_CHUNK = 512  # documents encoded at a time


@dataclass(frozen=True)
class TokenStore:
    """Token ids of every document of a pool, without special tokens.

    Attributes:
        tokens: all documents one after the other, uint16 or uint32, memory-mapped.
        offsets: document i is ``tokens[offsets[i] : offsets[i + 1]]``.
        n_bytes: UTF-8 bytes of each document: what bits per byte are counted by.
        bos_id: the token put before a document.
        eos_id: the token put after it.
        vocab_size: entries of the tokenizer.
    """

    tokens: NDArray[Any]
    offsets: Int[np.ndarray, " n+1"]
    n_bytes: Int[np.ndarray, " n"]
    bos_id: int
    eos_id: int
    vocab_size: int

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an artifact "tokens". Raises DataError if it is none."""
        manifest, folder = read_manifest(path, "tokens"), Path(path)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        return cls(**arrays, **{name: manifest[name] for name in ("bos_id", "eos_id", "vocab_size")})

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens of each document. int64."""
        return np.diff(self.offsets)

    def document(self, row: int) -> NDArray[Any]:
        """Token ids of one document."""
        return self.tokens[int(self.offsets[row]) : int(self.offsets[row + 1])]


_ARRAYS = ("tokens", "offsets", "n_bytes")


def tokenize(
    pool: Pool,
    tokenizer: str | Path,
    out: str | Path,
    *,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    progress: bool = True,
) -> Path:
    """Encode every document of a pool and write an artifact "tokens".

    Args:
        pool: texts, all of them readable.
        tokenizer: an artifact "tokenizer".
        out: the folder to make: ``tokens.npy``, ``offsets.npy``, ``n_bytes.npy``.
        key, inputs, config: see ``create_artifact``.
        progress: a bar on stderr.

    Raises:
        ConfigError: the items are no texts. UnreadableItem: a document cannot be read.
    """
    if kind_of(pool) != "text":
        raise ConfigError("pool", f"{pool.name!r} holds {kind_of(pool)}, and tokens come from texts", "use texts")
    opened, told = open_tokenizer(tokenizer), read_manifest(tokenizer, "tokenizer")
    dtype = np.uint16 if told["vocab_size"] <= 1 << 16 else np.uint32
    lengths, sizes = np.zeros(len(pool), np.int64), np.zeros(len(pool), np.int64)
    with create_artifact(out, "tokens", key=key, inputs=inputs, config=config) as draft:
        with (
            one_thread_tokenizer(),
            open(draft.path / "tokens.bin", "wb") as stream,
            progress_bar(len(pool), "tokenize", "documents", disable=not progress) as bar,
        ):
            for start in range(0, len(pool), _CHUNK):
                texts = [pool[row] for row in range(start, min(start + _CHUNK, len(pool)))]
                for row, (text, ids) in enumerate(zip(texts, encode_texts(opened, texts), strict=True), start):
                    lengths[row], sizes[row] = len(ids), len(text.encode())
                    stream.write(np.asarray(ids, dtype).tobytes())
                bar.update(len(texts))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        _as_npy(draft.path / "tokens.bin", draft.path / "tokens.npy", dtype, int(offsets[-1]))
        np.save(draft.path / "offsets.npy", offsets)
        np.save(draft.path / "n_bytes.npy", sizes)
        draft.meta.update(
            documents=len(pool),
            n_tokens=int(offsets[-1]),
            bytes=int(sizes.sum()),
            **{name: told[name] for name in ("vocab_size", "bos_id", "eos_id")},
        )
    return Path(out)


def _as_npy(raw: Path, file: Path, dtype: Any, n: int) -> None:
    """Put NumPy's header before what was streamed, without holding it in memory."""
    array = np.lib.format.open_memmap(file, "w+", dtype, (n,))
    if n:
        array[:] = np.memmap(raw, dtype, "r")
    array.flush()
    raw.unlink()
