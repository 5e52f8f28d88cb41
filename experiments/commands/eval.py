"""`strata eval`: score one backbone (a strata folder, or timm:NAME) on benchmarks, without an experiment."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.eval.backbone import probed_blocks
from strata.experiments.app import app
from strata.experiments.checks import check_probed
from strata.experiments.checks_stages import check_probes
from strata.experiments.identity import folder_digest
from strata.experiments.plan import plan_features, plan_score, train_labels
from strata.experiments.session import open_runner, open_store
from strata.experiments.stage import unique


@app("eval")
def main(config: dict[str, Any]) -> None:
    """Extract features once, run every protocol, print the scores."""
    backbone = config["backbone"]
    if not isinstance(backbone, str):
        raise ConfigError("backbone", f"{backbone!r}", "give a strata backbone folder, or timm:NAME")
    label = Path(backbone).name
    for group, example in (("benchmark", "digits"), ("protocol", "knn")):
        if not config[f"{group}s"]:
            raise ConfigError(f"{group}s", "there are none", f"add e.g. +{group}@{group}s.{example}={example}")
    check_probed(config)
    check_probes(config["protocols"], train_labels(config["benchmarks"]), probed_blocks(backbone)[0])
    scores = []
    for name, benchmark in config["benchmarks"].items():
        features = plan_features(name, benchmark, {}, config, label)
        features = replace(
            features,
            config={**features.config, "backbone": _identity(backbone)},
            runtime={**features.runtime, "backbone": backbone, "made_by": _made_by(backbone)},
        )
        scores += [plan_score(name, p, options, features, config, label) for p, options in config["protocols"].items()]
    store = open_store(config)
    open_runner(config, store, "eval").run(unique(scores))
    for stage in scores:
        for score in json.loads((store.path(stage) / "scores.json").read_text()):
            interval = f"[{100 * score['ci_low']:.1f}, {100 * score['ci_high']:.1f}]"
            protocol = f"{score['protocol']}-v{score['version']}"
            print(
                f"{score['benchmark']:<20} {protocol:<12} {score['metric']:<20} {100 * score['value']:5.1f} {interval}"
            )


def _identity(backbone: str) -> str:
    """What the key says of a backbone: the digest of its config and weights, or its public name."""
    if backbone.startswith("timm:"):
        return backbone
    for name in ("model.safetensors", "config.json"):
        if not (Path(backbone) / name).is_file():
            raise ConfigError(
                "backbone", f"{Path(backbone) / name} is not there", "give a strata backbone folder, or timm:NAME"
            )
    return folder_digest(backbone)


def _made_by(backbone: str) -> dict[str, str]:
    """The stage that made a backbone, for lineage; nothing for one from elsewhere."""
    if not (Path(backbone) / "manifest.json").is_file():
        return {}
    key = read_manifest(backbone, "backbone")["key"]
    return {"backbone": key} if key else {}
