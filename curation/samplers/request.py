"""What a sampler may be given, and the checks that all samplers share."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.kmeans.source import Source, as_source


class Inputs(TypedDict, total=False):
    """What is known of a pool of ``size`` rows. A sampler names in ``needs`` what it cannot do without.

    Embeddings are anything [n, d] that ``HierarchicalKMeans.fit`` takes: an array, a memory map, an EmbeddingStore.
    """

    hierarchy: Hierarchy | None
    labels: NDArray[np.int64] | None  # [size], -1 = none
    metadata: Sequence[Any] | NDArray[Any] | None  # [size]: a text, a number, or a list of tags per row
    embeddings: Any  # [size, d]
    seeds: Any  # [m, d]: embeddings of another set, by the same encoder
    test: Any  # [m, d]: embeddings of a test set, by the same encoder


def checked_size(n: int | None, available: int, what: str = "rows") -> int:
    """``n`` if so many can be drawn.

    Raises:
        ConfigError: n is not set, negative or more than there are.
    """
    if n is None:
        raise ConfigError("sample.size", "not set", "say how many rows to draw")
    if not 0 <= n <= available:
        raise ConfigError("sample.size", f"{n} of {available} {what}", f"ask for at most {available}")
    return n


def checked_hierarchy(given: Inputs, size: int, who: str) -> Hierarchy:
    """The hierarchy, if it is of a pool of ``size``. Raises ConfigError if not."""
    hierarchy = given.get("hierarchy")
    if hierarchy is None:
        raise ConfigError("sampler", f"{who} needs a hierarchy", "set hierarchy=... for this arm")
    if hierarchy.n != size:
        raise ConfigError("sampler", f"a hierarchy of {hierarchy.n} rows for a pool of {size}", "cluster this pool")
    return hierarchy


def checked_labels(given: Inputs, size: int, who: str) -> NDArray[np.int64]:
    """The labels [size], some of them known. Raises ConfigError if not."""
    labels = given.get("labels")
    if labels is None or not (labels >= 0).any():
        raise ConfigError("sampler", f"{who} needs labels and this pool has none", "use another sampler")
    if len(labels) != size:
        raise ConfigError("sampler", f"{len(labels)} labels for a pool of {size} rows", "give those of this pool")
    return labels


def checked_embeddings(given: Inputs, size: int, who: str) -> Source:
    """The embeddings of the pool [size, d]. Raises ConfigError if there are none, or of another pool."""
    embeddings = given.get("embeddings")
    if embeddings is None:
        raise ConfigError("sampler", f"{who} needs the embeddings of the pool", "give embeddings=... (an array [n, d])")
    source = as_source(embeddings)
    if source.shape[0] != size:
        raise ConfigError("sampler", f"{source.shape[0]} embeddings for a pool of {size} rows", "embed this pool")
    return source


def checked_reference(embeddings: Any, role: str, dim: int, who: str) -> Source:
    """Embeddings of another set, [m, dim]. Raises ConfigError if there are none, or of another length."""
    if embeddings is None:
        raise ConfigError(f"references.{role}", f"{who} needs it and it is not set", "name a pool to compare with")
    source = as_source(embeddings)
    if source.shape[1] != dim:
        problem = f"embeddings of length {source.shape[1]}, but those of the pool have {dim}"
        raise ConfigError(f"references.{role}", problem, "embed both with the same encoder")
    return source
