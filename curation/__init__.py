"""Automatic data curation: pools, encoders, embedding stores, hierarchical k-means and balanced samplers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strata.curation.hierarchical_kmeans import HierarchicalKMeans
    from strata.curation.hierarchy import Hierarchy
    from strata.curation.store import EmbeddingStore

__all__ = ["EmbeddingStore", "HierarchicalKMeans", "Hierarchy"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a command that only prints help should not wait for torch.
    if name == "HierarchicalKMeans":
        from strata.curation.hierarchical_kmeans import HierarchicalKMeans

        return HierarchicalKMeans
    if name == "Hierarchy":
        from strata.curation.hierarchy import Hierarchy

        return Hierarchy
    if name == "EmbeddingStore":
        from strata.curation.store import EmbeddingStore

        return EmbeddingStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
