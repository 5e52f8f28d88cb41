"""`strata rescore`: scores again from stored predictions, when only a protocol's scoring moved."""

from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.errors import DataError
from strata.eval.rescore import rescore
from strata.experiments.console.app import app
from strata.experiments.session import open_store
from strata.experiments.settings.build import build
from strata.experiments.settings.places import new_folder
from strata.experiments.settings.stored_scores import scores_folder


@app("rescore")
def main(config: dict[str, Any]) -> None:
    """Print old and new value of every metric, and write the new scores folder."""
    folder = scores_folder(config["scores"], open_store(config), "scores")
    out = new_folder(config["out"], "out")
    made_with = (read_manifest(folder, "scores").get("config") or {}).get("protocol")
    if not made_with:
        raise DataError(f"{folder} does not say which protocol made it; use strata.eval.rescore with the protocol")
    out.parent.mkdir(parents=True, exist_ok=True)
    for score in rescore(folder, out, build(made_with, "protocol")):
        interval = f"[{score.ci_low:.4f}, {score.ci_high:.4f}]"
        print(
            f"{score.benchmark:<20} {score.protocol}-v{score.version:<4} {score.metric:<24} {score.value:.4f} {interval}"
        )
    print(f"scores  {out}")
