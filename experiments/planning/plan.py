"""From one config to the graph of stages: arms x seeds -> unique stages, checked before anything is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from strata.curation.errors import ConfigError
from strata.curation.levels import resolve_levels
from strata.curation.pools.base import Pool
from strata.curation.pools.content import check_reads, kind_of
from strata.experiments.comparison.check_comparison import check_comparison
from strata.experiments.identity import UNKEYED_CLUSTERING, UNKEYED_SSL, clustering_identity, identity, ssl_identity
from strata.experiments.planning.checks_stages import (
    check_draw,
    check_encoder,
    check_hierarchy,
    check_items,
    check_sampling,
    check_ssl,
    field_of,
    metric_names,
)
from strata.experiments.planning.cluster_cost import cluster_cost, dimension
from strata.experiments.planning.online import online_settings
from strata.experiments.planning.plan_eval import check_probes, plan_probes
from strata.experiments.planning.references import REFERENCES, metadata_column
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import check_experiment, check_table, whole
from strata.experiments.stage import KINDS, Stage, canonical_json, unique
from strata.ssl.image.bands import needs_statistics

ARM_SETTINGS = ("pool", "encoder", "hierarchy", "sampler", "size", "ssl", "references", "draw")

DRAWS = 1_000_003  # between the seeds of one draw and the next


@dataclass(frozen=True)
class Run:
    """One arm under one seed: the stages from pool to scores. ``scores`` is keyed by (benchmark, protocol)."""

    arm: str
    seed: int
    sample: Stage
    pretrain: Stage | None
    scores: dict[tuple[str, str], Stage]


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment."""

    name: str
    runs: list[Run]

    @property
    def stages(self) -> list[Stage]:
        """Every stage once, inputs first, seed by seed."""
        leaves: list[Stage] = []
        for run in self.runs:
            leaves += run.scores.values() or [run.pretrain or run.sample]
        return unique(leaves)


class Pools:
    """Pools opened while planning: each config once."""

    def __init__(self) -> None:
        self._opened: dict[str, Pool] = {}

    def open(self, config: Mapping[str, Any], field: str) -> Pool:
        """The pool of a config. An empty one is an error of ``field``."""
        key = canonical_json(config)
        if key not in self._opened:
            pool: Pool = build(config, field)
            if len(pool) == 0:
                raise ConfigError(field, f"{pool.name} has no items", "point it at data, or at another split")
            self._opened[key] = pool
        return self._opened[key]


def make_plan(config: Mapping[str, Any]) -> Plan:
    """The graph of an experiment's config (plain containers, resolved).

    Everything that can be wrong is looked at here: pools are opened, sizes compared, typed settings built.

    Raises:
        ConfigError: names the field and the fix.
    """
    if config.get("domain") == "text":
        from strata.experiments.text.plan import make_text_plan  # builds on this module

        return make_text_plan(config)
    pools = Pools()
    check_experiment(config)
    if config["ssl"] is None:
        from strata.experiments.planning.measured_plan import make_measured_plan  # builds on this module

        return make_measured_plan(config)
    seeds, arms = config["seeds"], config["arms"]
    check_table(config, metric_names(config["protocols"], config["benchmarks"]))
    check_comparison(config)
    build(config["sampler"], "sampler")  # arms may all have their own
    defaults = {name: config.get(name) for name in ARM_SETTINGS}
    settings = {name: merge(defaults, diff or {}, f"arms.{name}") for name, diff in arms.items()}
    runs = []
    for seed in seeds:
        given = with_backbones(settings, seed, config, pools)
        runs += [plan_arm(name, given[name], seed, config, pools) for name in arms]
    return Plan(config["name"], runs)


def with_backbones(
    settings: Mapping[str, Mapping[str, Any]], seed: int, config: Mapping[str, Any], pools: Pools
) -> dict[str, dict[str, Any]]:
    """The settings of all arms; where the encoder is ``path: arm:NAME`` with how to plan the training of that arm or helper.

    So that an experiment trains its own encoder, as the paper does (a ViT-L on ImageNet-1k; in Table 3(f) on the raw pool).

    Raises:
        ConfigError: no such arm, or arms that wait for each other (when the plan is asked for).
    """
    found: dict[str, dict[str, Any]] = {}
    visiting: list[str] = []

    def trained(arm: str, user: str) -> Stage:
        field = field_of(config, user, "encoder") + ".path"
        if arm not in settings:
            raise ConfigError(field, f"'arm:{arm}' is no arm", f"use one of {', '.join(settings)}")
        if arm in visiting:
            raise ConfigError(field, f"arm {arm!r} would be trained on what its own network chose", "use another arm")
        visiting.append(arm)
        stage = plan_arm(arm, found[arm], seed, config, pools, until="backbone").pretrain
        visiting.remove(arm)
        assert stage is not None
        return stage

    helpers = config.get("helpers") or {}
    defaults = {name: config.get(name) for name in ARM_SETTINGS}
    settings = {**{name: merge(defaults, diff, f"helpers.{name}") for name, diff in helpers.items()}, **settings}
    for name, own in settings.items():
        path = own["encoder"].get("path")
        of = path.removeprefix("arm:") if isinstance(path, str) and path.startswith("arm:") else None
        found[name] = {**own, "backbone": None if of is None else partial(trained, of, name)}
    return found


def plan_arm(
    arm: str, settings: Mapping[str, Any], seed: int, config: Mapping[str, Any], pools: Pools, until: str = "scores"
) -> Run:
    """The stages of one arm under one seed, up to its "backbone" or its "scores"."""
    label = f"{arm}, seed {seed}"
    chosen = plan_sample(arm, settings, seed, config, pools)
    field = field_of(config, arm, "ssl")
    pretrain, blocks = plan_pretrain(arm, settings, seed, chosen, config, pools, field)
    if until == "backbone":
        return Run(arm, seed, chosen, pretrain, {})
    check_probes(config, f"the backbone of {arm}", blocks, has_patches=True)
    return Run(arm, seed, chosen, pretrain, plan_probes(config, {"backbone": pretrain}, label))


def plan_pretrain(
    arm: str,
    settings: Mapping[str, Any],
    seed: int,
    chosen: Stage,
    config: Mapping[str, Any],
    pools: Pools,
    field: str,
) -> tuple[Stage, int]:
    """The training on a subset, and the number of the backbone's blocks. ``field`` is where its recipe is said."""
    pool, ssl = pools.open(settings["pool"], field_of(config, arm, "pool")), settings["ssl"]
    images = chosen.config["size"] or len(pool)
    recipe, blocks = check_ssl(ssl, images, field)
    check_sampling(recipe, settings["sampler"], field)
    check_items(recipe, pool, field, config)
    unkeyed = {name: ssl[name] for name in (*UNKEYED_SSL, "init_from") if name in ssl}  # the key has its content
    inputs = {"pool": chosen.inputs["pool"], "subset": chosen}
    if needs_statistics(recipe, pool):
        inputs["bands"] = plan_bands(settings, pool, chosen.inputs["pool"])
    if recipe.sampling != "epoch":
        inputs["hierarchy"] = chosen.inputs.get("hierarchy") or plan_tree(arm, settings, seed, config, pools)
    stage = Stage(
        "pretrain",
        {"ssl": ssl_identity(recipe), "seed": seed},
        inputs,
        _runtime(config)
        | {
            "pools": {"pool": settings["pool"]},
            "ssl": unkeyed,
            "decoded": config["paths"]["decoded"],
            "online": online_settings(config),
        },
        f"{arm}, seed {seed}",
        work=recipe.steps * recipe.batch_size,
        memory=images * float(recipe.in_chans) * recipe.cache_size**2,
    )
    return stage, blocks


def plan_bands(settings: Mapping[str, Any], pool: Pool, inventory: Stage) -> Stage:
    """Statistics of the bands of a whole pool: all arms on it are normalized alike."""
    return Stage("bands", {}, {"pool": inventory}, {"pools": {"pool": settings["pool"]}}, pool.name, work=len(pool))


def plan_sample(arm: str, settings: Mapping[str, Any], seed: int, config: Mapping[str, Any], pools: Pools) -> Stage:
    """The stages of an arm up to its subset."""
    label = f"{arm}, seed {seed}"
    pool = pools.open(settings["pool"], field_of(config, arm, "pool"))
    sampler = build(settings["sampler"], field_of(config, arm, "sampler"))
    size = check_draw(sampler, settings["size"], pool, arm, field_of(config, arm, "size"))
    draw = settings.get("draw") or 0
    whole(field_of(config, arm, "draw"), draw, 0)
    drawn_by = (seed + DRAWS * draw) % 2**32  # another draw from the same clusters
    inventory = plan_pool(settings["pool"], config, pools)
    inputs = {"pool": inventory}
    if "hierarchy" in sampler.needs:
        inputs["hierarchy"] = plan_tree(arm, settings, seed, config, pools, size)
    if "metadata" in sampler.needs:
        metadata_column(pool, sampler.column)
    if "embeddings" in sampler.needs:
        inputs["embeddings"] = plan_embed(settings, config, pools)
    for role in sorted(sampler.needs & set(REFERENCES)):
        inputs[role] = plan_reference(role, settings, config, pools)
    return Stage(
        "sample",
        {"sampler": identity(settings["sampler"]), "size": size, "seed": drawn_by if sampler.sized else 0},
        inputs,
        {"pools": {"pool": settings["pool"]}, "labelled": pool.labels is not None},
        label,
        work=len(pool),
        memory=len(pool) * (64.0 + (8.0 * _dim(settings) if "embeddings" in inputs else 0.0)),
    )


def plan_tree(
    arm: str,
    settings: Mapping[str, Any],
    seed: int,
    config: Mapping[str, Any],
    pools: Pools,
    size: int | None = None,
) -> Stage:
    """The clustering that an arm draws by, before training (``size`` rows) or while it trains."""
    field, n = field_of(config, arm, "hierarchy"), len(pools.open(settings["pool"], field_of(config, arm, "pool")))
    settings = {**settings, "hierarchy": resolve_levels(settings["hierarchy"], n, size, field)}
    check_hierarchy(settings["hierarchy"], n, field)
    return plan_cluster(settings, seed, config, pools, f"{arm}, seed {seed}")


def plan_pool(pool_config: Mapping[str, Any], config: Mapping[str, Any], pools: Pools) -> Stage:
    """The inventory of a pool: keyed by its content, not by where it lies. With ``decontaminate`` less what it finds."""
    pool = pools.open(pool_config, "pool")
    keyed = {"fingerprint": pool.fingerprint, "on_error": config["on_error"]}
    taken = Stage("pool", keyed, {}, {"pool": pool_config}, pool.name, work=len(pool), memory=len(pool) * 64.0)
    if not config.get("decontaminate"):
        return taken
    from strata.experiments.text.plan import plan_decontaminated

    return plan_decontaminated(taken, config)


def plan_reference(role: str, settings: Mapping[str, Any], config: Mapping[str, Any], pools: Pools) -> Stage:
    """The embedding of a set that a sampler or measure compares the pool with, by the encoder as it was fitted on the pool."""
    reference = settings["references"].get(role)
    if reference is None:
        what = "measure" if role == "labelled" else "sampler"
        raise ConfigError(f"references.{role}", f"not set, and the {what} needs it", f"add +pool@references.{role}=...")
    return plan_embed({**settings, "pool": reference}, config, pools, like=plan_embed(settings, config, pools))


def plan_embed(
    settings: Mapping[str, Any], config: Mapping[str, Any], pools: Pools, like: Stage | None = None
) -> Stage:
    """The embedding of an arm's pool; all seeds share it. With ``like``, what the encoder learned is taken from there."""
    pool, backbone = pools.open(settings["pool"], "pool"), settings.get("backbone")
    inputs, keyed = {"pool": plan_pool(settings["pool"], config, pools)}, settings["encoder"]
    inputs |= {} if like is None else {"like": like}
    if backbone is not None:  # of another arm
        if kind_of(pool) not in ("images", "tiles"):
            raise ConfigError(
                "encoder", f"reads images, and pool {pool.name!r} holds {kind_of(pool)}", "use another encoder"
            )
        inputs["backbone"], keyed = backbone(), identity({**keyed, "path": "inputs.backbone"})
    else:
        encoder, keyed = build(settings["encoder"], "encoder"), identity(keyed)
        check_reads(pool, encoder)
        if like is None:  # else it has learned already
            check_encoder(encoder, len(pool))
    return Stage(
        "embed",
        {"encoder": keyed, "dtype": config["embed"]["dtype"]},
        inputs,
        _runtime(config) | {"pools": {"pool": settings["pool"]}, "encoder": settings["encoder"], **_loading(config)},
        f"{pool.name} by {settings['encoder']['_target_'].rsplit('.', 1)[-1]}",
        work=len(pool),
        memory=min(len(pool), 65_536) * 4.0 * _dim(settings),
    )


def plan_cluster(settings: Mapping[str, Any], seed: int, config: Mapping[str, Any], pools: Pools, label: str) -> Stage:
    """The clustering of an arm under a seed."""
    pool, hierarchy = pools.open(settings["pool"], "pool"), settings["hierarchy"]
    known = None if settings.get("backbone") else dimension(settings, pool)
    work, memory = cluster_cost(len(pool), known or _dim(settings), hierarchy)
    return Stage(
        "cluster",
        {"hierarchy": clustering_identity(hierarchy), "seed": seed},
        {"embeddings": plan_embed(settings, config, pools)},
        _runtime(config) | {"hierarchy": {name: hierarchy[name] for name in UNKEYED_CLUSTERING if name in hierarchy}},
        label,
        work=work,
        memory=memory,
    )


def merge(base: Mapping[str, Any], diff: Mapping[str, Any], field: str) -> dict[str, Any]:
    """An arm's settings: its small diff over the defaults. A diff with a ``_target_`` replaces the whole node.

    Raises:
        ConfigError: the diff names a setting that the base has not.
    """
    merged = dict(base)
    for name, value in diff.items():
        if name not in base and ".ssl" not in field:  # a recipe names some of its settings; its type knows them all
            raise ConfigError(f"{field}.{name}", "no such setting", f"use one of {', '.join(sorted(base))}")
        both_plain = isinstance(value, Mapping) and isinstance(base.get(name), Mapping) and "_target_" not in value
        merged[name] = merge(base[name], value, f"{field}.{name}") if both_plain else value
    return merged


def _runtime(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"device": config["runner"]["device"], "progress": False}


def _loading(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_size": config["embed"]["batch_size"], "num_workers": config["embed"]["num_workers"]}


def _dim(settings: Mapping[str, Any]) -> int:
    if settings.get("backbone"):
        recipe = settings.get("ssl") or settings["backbone"]().config["ssl"]  # an arm that trains nothing has none
        return int(recipe["model_kwargs"].get("embed_dim") or 1024)
    return int(settings["encoder"].get("n_components") or 1024)


def iter_kinds(stages: list[Stage]) -> Iterator[tuple[str, list[Stage]]]:
    """Stages grouped by kind, in the order of the way through."""
    for kind in KINDS:
        group = [stage for stage in stages if stage.kind == kind]
        if group:
            yield kind, group
