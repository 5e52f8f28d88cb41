"""The atlas of a curation: one HTML file to look at what a pool holds, what was kept and what was dropped."""

from strata.curation.atlas.write import write_atlas

__all__ = ["write_atlas"]
