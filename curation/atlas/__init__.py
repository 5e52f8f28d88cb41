"""The atlas of a curation: one HTML file to look at what a pool holds, what was kept and what was dropped."""

from strata.curation.atlas.write import Limits, write_atlas

__all__ = ["Limits", "write_atlas"]
