"""Where on earth each arm's tiles lie: what was kept and dropped, as GeoJSON for any map and as a picture."""

from pathlib import Path

import numpy as np

from strata.curation.footprints import footprints_of, write_footprints
from strata.curation.pools.inventory import readable
from strata.curation.subset import read_subset
from strata.experiments.planning.plan import Plan
from strata.experiments.settings.build import build
from strata.experiments.store import Store


def write_maps(plan: Plan, store: Store, folder: Path) -> list[str]:
    """``maps/<arm>.geojson`` and ``.png`` of the arms under the first seed whose pool has tiles with a place on earth.

    Items without a place (photographs in a mixture) are on no map.

    Returns:
        Names of the arms.
    """
    seed, drawn = plan.runs[0].seed, []
    for run in plan.runs:
        if run.seed != seed or run.sample.kind != "sample" or not store.done(run.sample):
            continue
        pool = readable(build(run.sample.runtime["pools"]["pool"], "pool"), store.path(run.sample.inputs["pool"]))
        footprints = footprints_of(pool)
        if footprints is None:
            continue
        (folder / "maps").mkdir(parents=True, exist_ok=True)
        kept = np.intersect1d(read_subset(store.path(run.sample)).rows, footprints["row"].to_numpy())
        file = folder / "maps" / f"{run.arm}.geojson"
        write_footprints(file, footprints, kept, picture=file.with_suffix(".png"))
        drawn.append(run.arm)
    return drawn
