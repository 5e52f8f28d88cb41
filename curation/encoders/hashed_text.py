"""Hashed words, tf-idf and a truncated SVD (latent semantic analysis): a text encoder without weights.

It sees which words occur, not what they mean: a floor, and what works offline. For meaning use ``sentence``.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind
from strata.curation.progress import progress

STATE_FILE = "svd.safetensors"
_COMPONENT_BITS = 24  # as fine as float32, and coarse enough to hide how LAPACK was threaded


class HashedText:
    """Texts as unit vectors. The same bits for any batch size.

    Each text becomes counts of hashed words (MurmurHash3), sublinear in the count, times the inverse document frequency,
    of unit length; then its coordinates on the leading right singular vectors of such rows, of unit length again. A text
    without a word gets the zero vector: all of these are alike.

    Args:
        n_features: hashed features. Two words may share one; more features make that rarer.
        n_components: length of an embedding. Where the fitted texts or their words are fewer, the rest is zeros.
        analyzer: "word", or "char_wb" (3 to 5 letters inside words: for languages without spaces, typos, codes).
        fit_rows: rows of the pool, drawn at random, that frequencies and singular vectors are fitted on.
        random_state: seed of that draw and of the randomized SVD.
        max_chars: a longer text is cut.

    Raises:
        ConfigError: a setting is out of range.
    """

    name = "hashed_text"
    reads: ClassVar[Kind] = "text"

    def __init__(
        self,
        n_features: int = 1 << 16,
        n_components: int = 128,
        analyzer: Literal["word", "char_wb"] = "word",
        fit_rows: int = 20000,
        random_state: int = 0,
        max_chars: int = 20000,
    ) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        if analyzer not in ("word", "char_wb"):
            raise ConfigError("encoder.analyzer", f"{analyzer!r} is unknown", "use word or char_wb")
        if not 2 <= n_features < 1 << 31:
            raise ConfigError("encoder.n_features", f"{n_features}", "use some ten thousands")
        if not 1 <= n_components < n_features:
            raise ConfigError("encoder.n_components", f"{n_components}", f"use 1 to {n_features - 1}")
        if fit_rows < 2 or max_chars < 1:
            raise ConfigError("encoder.fit_rows", f"{fit_rows} rows of {max_chars} characters", "use some thousands")
        self.n_features, self.n_components, self.analyzer = n_features, n_components, analyzer
        self.fit_rows, self.random_state, self.max_chars = fit_rows, random_state, max_chars
        self._vectorizer = HashingVectorizer(
            n_features=n_features,
            analyzer=analyzer,
            ngram_range=(1, 1) if analyzer == "word" else (3, 5),
            alternate_sign=False,
            norm=None,
        )
        self._idf: Float[np.ndarray, " f"] | None = None
        self._components: Float[np.ndarray, "f k"] | None = None

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.n_components

    @property
    def transform(self) -> Callable[[str], str]:
        """The text as it is: hashing many at once is faster."""
        return str

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Learn frequencies and singular vectors, or read ``work_dir`` where that was done already.

        Raises:
            ConfigError: no text has a word. DataError: a damaged state file.
        """
        state = Path(work_dir) / STATE_FILE
        if not state.exists():
            arrays = self._learn(pool)
            state.parent.mkdir(parents=True, exist_ok=True)
            temporary = state.with_name(state.name + ".tmp")
            save_file(arrays, temporary, metadata={"fitted_by": json.dumps(self.describe(), sort_keys=True)})
            temporary.replace(state)
        try:
            with safe_open(state, framework="numpy") as file:
                found = json.loads((file.metadata() or {}).get("fitted_by", "null"))
                self._idf, self._components = file.get_tensor("idf"), file.get_tensor("components")
        except SafetensorError as error:
            raise DataError(f"{state} cannot be read ({error}); remove its folder and run again") from error
        if found != json.loads(json.dumps(self.describe())):
            raise DataError(f"{state} was fitted by an encoder with other settings; use another folder")

    def encode(self, batch: Sequence[str]) -> Float[Tensor, "b d"]:
        """Embeddings of texts. Raises ConfigError before ``fit``."""
        if self._idf is None or self._components is None:
            raise ConfigError("encoder", f"{self.name} is not fitted", "call fit(pool, work_dir) first")
        projected = self._weighted(self._counts(batch), self._idf) @ self._components
        return torch.from_numpy(_unit(projected)).float()

    def describe(self) -> dict[str, Any]:
        """See Encoder. What was learned is not part of it: it lies in ``svd.safetensors``."""
        return {
            "name": self.name,
            "model": "tf-idf + truncated SVD",
            "weights_sha256": None,
            "pooling": None,
            "normalization": "l2",
            "n_features": self.n_features,
            "n_components": self.n_components,
            "fit_rows": self.fit_rows,
            "random_state": self.random_state,
            "transform": {"analyzer": self.analyzer, "max_chars": self.max_chars, "lowercase": True},
        }

    def to(self, device: str | torch.device) -> Self:
        """It stays on the CPU: the work is in hashing words."""
        return self

    def _learn(self, pool: Pool) -> dict[str, np.ndarray]:
        from sklearn.utils.extmath import randomized_svd

        rows = np.arange(len(pool))
        if self.fit_rows < len(pool):
            drawn = np.random.default_rng(self.random_state).choice(len(pool), self.fit_rows, replace=False)
            rows = np.sort(drawn)
        with progress(len(rows), f"fit {self.name}", "texts") as bar:
            texts = []
            for row in rows.tolist():
                texts.append(pool[row][: self.max_chars])
                bar.update()
        counts = self._counts(texts)
        seen = np.bincount(counts.indices, minlength=self.n_features)  # documents with each feature
        rank = min(len(texts), int((seen > 0).sum()), self.n_components)
        if not rank:
            raise ConfigError("encoder", f"no text of {pool.name!r} has a word", "use encoder.analyzer=char_wb")
        idf = np.log((1 + len(texts)) / (1 + seen)) + 1  # scikit-learn's smooth idf
        weighted = self._weighted(counts, idf)
        *_, vectors = randomized_svd(weighted, rank, n_iter=5, random_state=self.random_state)
        components = np.zeros((self.n_features, self.n_components))
        components[:, :rank] = np.rint(vectors.T * 2.0**_COMPONENT_BITS) / 2.0**_COMPONENT_BITS
        return {"idf": idf, "components": components}

    def _counts(self, texts: Sequence[str]) -> Any:
        return self._vectorizer.transform([text[: self.max_chars] for text in texts]).tocsr()

    def _weighted(self, counts: Any, idf: Float[np.ndarray, " f"]) -> Any:
        """(1 + log count) * idf, rows of unit length (sparse [n, f])."""
        weighted = counts.copy()
        weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        weighted.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(weighted.indptr))
        return weighted


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
