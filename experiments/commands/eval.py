"""`strata eval`: score backbones (folders or public names) on benchmarks, without an experiment."""

import hashlib
import os
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.eval.backbone import probed_blocks
from strata.eval.backbones.source import source_of
from strata.eval.model_card import Scored
from strata.experiments.console.app import app
from strata.experiments.identity import folder_digest
from strata.experiments.planning.plan_eval import check_probes, plan_probes
from strata.experiments.reporting.eval_report import write_eval_report
from strata.experiments.session import open_runner, open_store
from strata.experiments.settings.checks import check_probed, whole
from strata.experiments.settings.places import new_folder
from strata.experiments.stage import Stage, unique


@app("eval")
def main(config: dict[str, Any]) -> None:
    """Extract features once, run every protocol, print the scores, write a table and model cards."""
    backbones = named_backbones(config["backbone"])
    _check(config)
    for backbone in backbones.values():
        if config["image_size"] is None:
            check_probes(config, backbone, *probed_blocks(backbone))
    scores = {label: plan_backbone(label, backbone, config) for label, backbone in backbones.items()}
    stages = unique(stage for by_benchmark in scores.values() for stage in by_benchmark.values())
    store = open_store(config)
    out = None if config["out"] is None else new_folder(config["out"], "out")
    open_runner(config, store, "eval").run(stages)
    found = {
        label: {where: Scored.read(store.path(stage)) for where, stage in by_benchmark.items()}
        for label, by_benchmark in scores.items()
    }
    digest = hashlib.sha256("".join(stage.key for stage in stages).encode()).hexdigest()[:8]
    folder = out or Path(config["paths"]["runs"]).absolute() / "eval" / digest
    print(write_eval_report(found, config, folder, os.environ.get("STRATA_COMMAND", "")))
    print(f"table  {folder / 'table.md'}")


def named_backbones(given: Any) -> dict[str, str]:
    """Label -> backbone of ``backbone=X``, ``backbone=[X,Y]`` or ``backbone={label:X}``.

    Raises:
        ConfigError: it is none of these, or a backbone that is not known.
    """
    fix = "give a folder, timm:NAME, hf:OWNER/NAME, torchvision:NAME or untrained:ANY; or a list of them"
    listed = [given] if isinstance(given, str) else given
    if isinstance(listed, dict):
        found = {str(label): backbone for label, backbone in listed.items()}
    elif isinstance(listed, list) and all(isinstance(backbone, str) for backbone in listed):
        short = [_short(backbone) for backbone in listed]
        found = {
            name if short.count(name) == 1 else backbone: backbone for name, backbone in zip(short, listed, strict=True)
        }
        if len(found) < len(listed):
            raise ConfigError("backbone", f"{given!r} names one twice", "give each once")
    else:
        raise ConfigError("backbone", f"{given!r}", fix)
    if not found or not all(isinstance(backbone, str) and backbone for backbone in found.values()):
        raise ConfigError("backbone", f"{given!r}", fix)
    for backbone in found.values():
        source_of(backbone)
    return found


def plan_backbone(label: str, backbone: str, config: dict[str, Any]) -> dict[tuple[str, str], Stage]:
    """The scores of one backbone that is there already, by (benchmark, protocol)."""
    key = {"backbone": _identity(backbone)}
    if config["image_size"] is not None:
        key["image_size"] = config["image_size"]
    runtime = {"backbone": backbone, "made_by": _made_by(backbone)}
    return plan_probes(config, {}, label, key=key, runtime=runtime)


def _check(config: dict[str, Any]) -> None:
    for group, example in (("benchmark", "digits"), ("protocol", "knn")):
        if not config[f"{group}s"]:
            raise ConfigError(f"{group}s", "there are none", f"add {group}=NAME, e.g. {group}={example}")
    check_probed(config)
    whole("processes", config["processes"], 1)
    if config["image_size"] is not None:
        whole("image_size", config["image_size"], 1)


def _short(backbone: str) -> str:
    prefix = "untrained " if backbone.startswith("untrained:") else ""
    return prefix + Path(backbone.removeprefix("untrained:")).name


def _identity(backbone: str) -> str:
    """What the key says of a backbone: the digest of its config and weights, or its public name."""
    source = source_of(backbone)
    if source.folder is None:
        return f"{'untrained:' if source.untrained else ''}{source.library}:{source.name}"
    digest = folder_digest(source.folder)
    if not digest or not (source.folder / "config.json").is_file():
        raise ConfigError("backbone", f"{source.folder} has no config.json or no weights", "give a whole folder")
    return f"{'untrained:' if source.untrained else ''}{digest}"


def _made_by(backbone: str) -> dict[str, str]:
    """The stage that made a backbone, for lineage; nothing for one from elsewhere."""
    folder = source_of(backbone).folder
    if folder is None or not (folder / "manifest.json").is_file():
        return {}
    key = read_manifest(folder, "backbone")["key"]
    return {"backbone": key} if key else {}
