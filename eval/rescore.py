"""Scores again from stored predictions, when a protocol's version moved but what it predicts did not."""

from pathlib import Path

from strata.curation.artifact import read_manifest
from strata.curation.errors import DataError
from strata.eval.protocols.base import Protocol
from strata.eval.scores import Score, read_predictions, write_scores


def rescore(scores: str | Path, out: str | Path, protocol: Protocol, *, key: str = "") -> list[Score]:
    """Compute the scores of a folder anew by the current version of its protocol, without features or a fit.

    Args:
        scores: a folder that ``Protocol.run`` made, perhaps by an older version.
        out: the folder to make. Must not exist yet.
        protocol: of the same id and options.
        key: content key of the stage that does it.

    Raises:
        DataError: made by another protocol, with other options, by a version that predicted otherwise, or too old to
            hold what scoring needs. Then the evaluation must be run again.
    """
    manifest = read_manifest(scores, "scores")
    made, now = manifest["protocol"], protocol.describe()
    if made["id"] != now["id"]:
        raise DataError(f"{scores} is of the protocol {made['id']}, not {now['id']}; name its own")
    again = "run the evaluation again"
    if made.get("predictions_version") != now["predictions_version"]:
        versions = f"v{made['version']} predicted otherwise than v{now['version']}"
        raise DataError(f"{scores}: {made['id']}-{versions}; {again}")
    if _plain(made["options"]) != _plain(now["options"]):
        raise DataError(f"{scores} was made with other options of {made['id']}; {again}, or give those")
    if not manifest.get("about"):
        raise DataError(f"{scores} does not hold what scoring needs; {again}")
    predictions = read_predictions(scores)
    found = protocol.score(predictions, manifest["about"])
    kept = {name: manifest[name] for name in ("benchmark", "backbone", "splits", "about", "label_names")}
    write_scores(
        out,
        found,
        predictions,
        label_names=manifest["label_names"],
        key=key,
        inputs=manifest["inputs"],
        config=manifest["config"],
        meta={**kept, "protocol": now, "rescored_from": {"key": manifest["key"], "version": made["version"]}},
    )
    return found


def _plain(options: object) -> object:
    """As JSON has it: tuples are lists."""
    if isinstance(options, dict):
        return {name: _plain(value) for name, value in options.items()}
    return [_plain(value) for value in options] if isinstance(options, list | tuple) else options
