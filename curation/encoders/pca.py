"""PCA whose results do not depend on batch size, threads or machine order: all large sums are sums of integers.

Features are non-negative integers, and components are rounded to multiples of a power of two, so that every product and
every partial sum of the Gram matrix and of a projection is exact in float64. What is exact has no order of summation.
"""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from strata.curation.encoders.base import l2_normalize
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool
from strata.curation.progress import progress

_MANTISSA_BITS = 53
_COMPONENT_BITS = 24  # as fine as float32, and coarse enough to hide how LAPACK was threaded
STATE_FILE = "pca.safetensors"


@dataclass(frozen=True)
class PCA:
    """A fitted projection: ``(x @ components - offset) * scale``."""

    components: Float[np.ndarray, "d k"]  # float64, orthonormal to 2**-24, largest entry of each column positive
    offset: Float[np.ndarray, " k"]  # float64, the projected mean
    scale: Float[np.ndarray, " k"]  # float64: 1 / max_value (features count as [0, 1]), or 1 / deviation when whitened
    explained_variance: Float[np.ndarray, " k"]  # float64, descending, of features in [0, 1]

    @classmethod
    def fit(cls, X: Int[np.ndarray, "n d"], n_components: int, *, max_value: int, whiten: bool = False) -> Self:
        """Exact PCA by the eigenvectors of the float64 covariance matrix (time O(n d² + d³)).

        Args:
            X: non-negative integers up to ``max_value``.
            n_components: k, at most min(n - 1, d).
            max_value: largest value that a feature may have, here or when projecting.
            whiten: divide each component by its standard deviation.

        Raises:
            ConfigError: too few rows for the components, or no variance to whiten by.
        """
        n, d = X.shape
        if n_components >= n:
            raise ConfigError("encoder.n_components", f"{n_components} of {n} fitted rows", f"use at most {n - 1}")
        gram, total = np.zeros((d, d)), np.zeros(d)
        for start in range(0, n, 1024):
            block = X[start : start + 1024].astype(np.float64)
            gram += block.T @ block
            total += block.sum(axis=0)
        variance, vectors = np.linalg.eigh((gram - np.outer(total, total) / n) / (n - 1))
        variance, vectors = variance[::-1][:n_components], vectors[:, ::-1][:, :n_components]
        if whiten and variance[-1] <= variance[0] * 1e-10:
            raise ConfigError("encoder.n_components", f"{n_components} is above the rank of the data", "use fewer")
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(n_components)])
        bits = min(_COMPONENT_BITS, _MANTISSA_BITS - math.ceil(math.log2(max_value + 1)) - math.ceil(math.log2(d)))
        components = np.rint(vectors * signs * 2.0**bits) / 2.0**bits
        scale = 1 / np.sqrt(variance) if whiten else np.full(n_components, 1 / max_value)
        return cls(np.ascontiguousarray(components), (total @ components) / n, scale, variance / max_value**2)

    def project(self, X: Int[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Coordinates in float64; the same bits whatever rows are projected together."""
        return (X.astype(np.float64) @ self.components - self.offset) * self.scale

    def save(self, path: Path, fitted_by: dict[str, Any]) -> None:
        """Write the arrays and the description of the encoder that fitted them, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        save_file(vars(self), temporary, metadata={"fitted_by": json.dumps(fitted_by, sort_keys=True)})
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, fitted_by: dict[str, Any]) -> Self:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is damaged, or an encoder with other settings fitted it.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                found = json.loads((file.metadata() or {}).get("fitted_by", "null"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise DataError(f"{path} cannot be read ({error}); remove its folder and run again") from error
        if found != json.loads(json.dumps(fitted_by)):
            raise DataError(f"{path} was fitted by an encoder with other settings; use another folder")
        return cls(**arrays)


class PCAEncoder(ABC):
    """An integer descriptor per image followed by PCA. It works on the CPU, in float64, rounded once to float32.

    Args:
        n_features: d, length of the descriptor.
        max_value: largest value of the descriptor.
        n_components: k, length of an embedding.
        whiten: divide each component by its standard deviation.
        fit_rows: rows of the pool, drawn at random, that PCA is fitted on.
        random_state: seed of that draw.
        normalize: scale embeddings to unit length.
    """

    name: str
    max_features: ClassVar[int] = 8192  # the eigenvectors of a larger covariance take many minutes

    def __init__(
        self,
        n_features: int,
        max_value: int,
        n_components: int,
        whiten: bool,
        fit_rows: int,
        random_state: int,
        normalize: bool,
    ) -> None:
        if n_features > self.max_features:
            fix = f"use a smaller one (at most {self.max_features} features)"
            raise ConfigError("encoder.size", f"gives {n_features} features per image", fix)
        if not 1 <= n_components <= n_features:
            fix = f"use 1 to {n_features} (the number of features)"
            raise ConfigError("encoder.n_components", f"{n_components} is out of range", fix)
        if fit_rows < 2:
            raise ConfigError("encoder.fit_rows", f"{fit_rows} rows cannot be fitted", "use some thousands")
        self.max_value, self.n_components, self.whiten = max_value, n_components, whiten
        self.fit_rows, self.random_state, self.normalize = fit_rows, random_state, normalize
        self._pca: PCA | None = None

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.n_components

    @property
    @abstractmethod
    def transform(self) -> "Descriptor":
        """Image -> descriptor, integers in [0, max_value]."""

    def check_rows(self, n: int) -> None:
        """Raise a ConfigError if ``n`` rows are too few for the components. ``fit`` does so too."""
        fitted = min(self.fit_rows, n)
        if self.n_components >= fitted:
            fix = f"use at most {fitted - 1}" if fitted > 1 else "give a pool of more rows"
            raise ConfigError("encoder.n_components", f"{self.n_components} of {fitted} fitted rows", fix)

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Fit PCA on ``fit_rows`` random rows of the pool, or read ``work_dir`` where that was done already.

        Raises:
            ConfigError, DataError: see ``PCA.fit`` and ``PCA.load``. UnreadableItem: as the pool says.
        """
        state = Path(work_dir) / STATE_FILE
        if not state.exists():
            sample = self._sample(pool)
            pca = PCA.fit(sample, self.n_components, max_value=self.max_value, whiten=self.whiten)
            pca.save(state, self.describe())
        self._pca = PCA.load(state, self.describe())

    def fitted_rows(self, pool: Pool) -> Int[np.ndarray, " n"]:
        """The rows of a pool that PCA is fitted on: ascending, at most ``fit_rows``."""
        rows = np.arange(len(pool))
        if self.fit_rows < len(pool):
            rows = np.sort(np.random.default_rng(self.random_state).choice(len(pool), self.fit_rows, replace=False))
        return rows

    def _sample(self, pool: Pool) -> Int[np.ndarray, "n d"]:
        rows = self.fitted_rows(pool)
        with progress(len(rows), f"fit {self.name}", "items") as bar:
            descriptors = []
            for row in rows.tolist():
                descriptors.append(self.transform(pool[row]).flatten().numpy())
                bar.update()
        return np.stack(descriptors)

    def encode(self, batch: Tensor) -> Float[Tensor, "b d"]:
        """Project descriptors. Raises ConfigError before ``fit``."""
        if self._pca is None:
            raise ConfigError("encoder", f"{self.name} is not fitted", "call fit(pool, work_dir) first")
        projected = torch.from_numpy(self._pca.project(batch.flatten(1).cpu().numpy()))
        return (l2_normalize(projected) if self.normalize else projected).float()

    def describe(self) -> dict[str, Any]:
        """See Encoder. What was learned is not part of it: it lies in ``pca.safetensors``."""
        return {
            "name": self.name,
            "model": "pca",
            "weights_sha256": None,
            "pooling": None,
            "normalization": "l2" if self.normalize else None,
            "n_components": self.n_components,
            "whiten": self.whiten,
            "fit_rows": self.fit_rows,
            "random_state": self.random_state,
            "transform": self.transform.describe(),
        }

    def to(self, device: str | torch.device) -> Self:
        """PCA stays on the CPU, where it is exact and never the slow part."""
        return self


class Descriptor(ABC):
    """A picklable transform that says what it does."""

    @abstractmethod
    def __call__(self, image: Image.Image) -> Tensor:
        """Integer features of an image."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The resolved transform: size, interpolation, crop, mean, std, and what else fixes it."""
