"""The graph of an experiment without training (``ssl: null``): arms x seeds, ending in measures of clusterings."""

from collections.abc import Mapping
from typing import Any

from strata.curation.errors import ConfigError
from strata.experiments.comparison.check_comparison import check_comparison
from strata.experiments.comparison.measured_results import check_measured
from strata.experiments.identity import identity
from strata.experiments.planning.checks_stages import check_hierarchy, field_of
from strata.experiments.planning.plan import (
    Plan,
    Pools,
    Run,
    merge,
    plan_cluster,
    plan_embed,
    plan_reference,
    plan_sample,
    with_backbones,
)
from strata.experiments.planning.tree_checks import check_trees
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import mapping, one_of
from strata.experiments.stage import Stage

MEASURED_SETTINGS = ("pool", "encoder", "hierarchy", "sampler", "size", "codebook", "measured", "references")
FIGURES = ("clouds", "lines", "classes", "groups", "bars", "tree")
WHAT = ("centroids", "subset", "pool")


def make_measured_plan(config: Mapping[str, Any]) -> Plan:
    """Pool, embed, then cluster (or another codebook) and sample as far as an arm needs, then every measure.

    An arm's settings are those of a trained one and two more: ``codebook``, a method in place of ``hierarchy``, and
    ``measured``: "centroids" (the top level's, or the codebook), "subset" or "pool". With ``redraw_pool`` each seed
    has its own draw of a simulated pool. A helper is trained where an encoder is ``arm:NAME`` of it.

    Raises:
        ConfigError: names the field and the fix.
    """
    pools, measures = Pools(), mapping(config, "measures")
    if not measures:
        raise ConfigError("measures", "there are none and nothing is trained (ssl is null)", "name at least one")
    built = {name: build(measure, f"measures.{name}") for name, measure in measures.items()}
    metrics = [metric for measure in built.values() for metric in measure.metrics]
    check_measured(config, metrics)
    check_comparison(config)
    one_of("figure.kind", mapping(config, "figure").get("kind"), FIGURES)
    defaults = {name: config.get(name) for name in MEASURED_SETTINGS}
    arms = {name: merge(defaults, diff or {}, f"arms.{name}") for name, diff in config["arms"].items()}
    rows_for = [name for name, measure in built.items() if measure.needs_rows]
    for name, settings in arms.items():
        if rows_for and settings["measured"] == "centroids":
            problem = f"is 'centroids', and measures.{rows_for[0]} is of rows"
            raise ConfigError(field_of(config, name, "measured"), problem, "set it to subset or pool")
        path = settings["encoder"].get("path")
        if isinstance(path, str) and path.startswith("arm:") and path[4:] not in (config.get("helpers") or {}):
            fix = "use a helper that is trained"
            raise ConfigError(
                field_of(config, name, "encoder") + ".path", f"{path!r} is not trained (ssl is null)", fix
            )
    check_trees(config, arms, built, pools)
    runs = []
    for seed in config["seeds"]:
        given = with_backbones(arms, seed, config, pools)
        runs += [_run(name, given[name], seed, config, pools) for name in arms]
    return Plan(config["name"], runs)


def _run(arm: str, settings: Mapping[str, Any], seed: int, config: Mapping[str, Any], pools: Pools) -> Run:
    label = f"{arm}, seed {seed}"
    one_of(field_of(config, arm, "measured"), settings["measured"], WHAT)
    if config.get("redraw_pool"):
        settings = {**settings, "pool": {**settings["pool"], "seed": seed}}
    embeddings = plan_embed(settings, config, pools)
    points = _points(arm, settings, seed, config, pools, embeddings, label)
    inputs = {"embeddings": embeddings} | ({} if points is None else {"points": points})
    scores = {}
    for name, settings_of in config["measures"].items():
        measure, own = build(settings_of, f"measures.{name}"), dict(inputs)
        if measure.needs_reference:
            own["reference"] = plan_reference("labelled", settings, config, pools)
        scores[name, ""] = Stage(
            "measure",
            {"measure": identity(settings_of), "version": measure.VERSION, "seed": seed},
            own,
            {},
            f"{name} of {label}",
            work=embeddings.work,
            memory=embeddings.work * 64.0,
        )
    return Run(arm, seed, points or embeddings, None, scores)


def _points(
    arm: str,
    settings: Mapping[str, Any],
    seed: int,
    config: Mapping[str, Any],
    pools: Pools,
    embeddings: Stage,
    label: str,
) -> Stage | None:
    """The stage whose points are measured; None for those of the whole pool."""
    if settings["measured"] == "pool":
        return None
    if settings["measured"] == "subset":
        return plan_sample(arm, settings, seed, config, pools)
    if settings["codebook"] is None:
        n = len(pools.open(settings["pool"], field_of(config, arm, "pool")))
        check_hierarchy(settings["hierarchy"], n, field_of(config, arm, "hierarchy"))
        return plan_cluster(settings, seed, config, pools, label)
    build(settings["codebook"], field_of(config, arm, "codebook"))
    # Not every method is a k-means; what an iteration of one on every row would cost stands for all.
    work, memory = embeddings.work, embeddings.work * 512.0
    codebook = {"codebook": identity(settings["codebook"]), "seed": seed}
    return Stage("codebook", codebook, {"embeddings": embeddings}, {}, label, work=work, memory=memory)
