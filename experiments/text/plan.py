"""The graph of a text experiment (``domain: text``): pools, tokens, subsets, language models, and what judges them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.content import kind_of
from strata.curation.pools.fingerprint import digest_file
from strata.eval.text.tasks import task_of
from strata.experiments.comparison.check_comparison import check_comparison
from strata.experiments.identity import folder_digest, leave_out, plain
from strata.experiments.planning.checks_stages import field_of
from strata.experiments.planning.plan import ARM_SETTINGS, Plan, Pools, Run, merge, plan_pool, plan_sample
from strata.experiments.planning.plan_eval import plan_score
from strata.experiments.settings.build import build
from strata.experiments.settings.checks import check_experiment
from strata.experiments.stage import Stage, canonical_json
from strata.experiments.text.settings import TextSettings, check_decontaminate, check_recipe, check_text
from strata.experiments.text.tables import check_text_table

TEXT_SETTINGS = (*ARM_SETTINGS, "match_tokens")


def make_text_plan(config: Mapping[str, Any]) -> Plan:
    """Arms x seeds of a text experiment, everything checked.

    An arm's settings are those of an image experiment and one more: ``match_tokens``, the name of an arm of the same
    pool whose number of tokens a random subset is drawn to.

    Raises:
        ConfigError: names the field and the fix.
    """
    check_experiment(config)
    settings, pools = check_text(config), Pools()
    check_text_table(config)
    check_comparison(config)
    defaults = {name: config.get(name) for name in TEXT_SETTINGS}
    arms = {name: merge(defaults, diff or {}, f"arms.{name}") for name, diff in config["arms"].items()}
    tokenizer = plan_tokenizer(settings, config, pools)
    runs = [_run(name, arms, seed, config, settings, tokenizer, pools) for seed in config["seeds"] for name in arms]
    return Plan(config["name"], runs)


def plan_tokenizer(settings: TextSettings, config: Mapping[str, Any], pools: Pools) -> Stage:
    """One tokenizer for all arms."""
    told = settings.tokenizer
    if told.path is not None:
        keyed = {"path": folder_digest(told.path) or told.path, "revision": told.revision}
        return Stage("tokenizer", keyed, {}, {"path": told.path}, told.path)
    inventory = _raw(told.pool, "text.tokenizer.pool", config, pools)
    keyed = {name: getattr(told, name) for name in ("vocab_size", "min_frequency", "max_documents", "seed")}
    runtime = {"pools": {"pool": told.pool}}
    return Stage("tokenizer", keyed, {"pool": inventory}, runtime, inventory.label, work=inventory.work)


def plan_tokens(inventory: Stage, tokenizer: Stage) -> Stage:
    """The tokens of an inventory's documents."""
    runtime = {"pools": {"pool": inventory.runtime["pool"]}, "progress": False}
    inputs = {"pool": inventory, "tokenizer": tokenizer}
    return Stage("tokenize", {}, inputs, runtime, inventory.label, work=inventory.work, memory=inventory.work * 2e3)


def plan_decontaminated(inventory: Stage, config: Mapping[str, Any]) -> Stage:
    """The inventory without what stands in an evaluation set."""
    settings = check_decontaminate(config)
    assert settings is not None and settings.against is not None
    files = {name: _task_digest(name) for name in settings.against}
    keyed = {"n": settings.n, "remove": settings.remove, "against": settings.against, "files": files}
    pool = inventory.runtime["pool"]
    runtime = {"pool": pool, "pools": {"pool": pool}}
    return Stage("decontaminate", keyed, {"pool": inventory}, runtime, inventory.label, work=inventory.work)


def _raw(pool_config: Mapping[str, Any], field: str, config: Mapping[str, Any], pools: Pools) -> Stage:
    """The inventory of a pool as it is: what is no training data is not decontaminated."""
    _check_text(pool_config, field, pools)
    return plan_pool(pool_config, {**config, "decontaminate": None}, pools)


def _check_text(pool_config: Mapping[str, Any], field: str, pools: Pools) -> None:
    pool = pools.open(pool_config, field)
    if kind_of(pool) != "text":
        raise ConfigError(field, f"{pool.name!r} holds {kind_of(pool)}", "use a pool of texts")


def _run(
    arm: str,
    arms: Mapping[str, Mapping[str, Any]],
    seed: int,
    config: Mapping[str, Any],
    settings: TextSettings,
    tokenizer: Stage,
    pools: Pools,
) -> Run:
    label, chosen = f"{arm}, seed {seed}", arms[arm]
    _check_text(chosen["pool"], field_of(config, arm, "pool"), pools)
    inventory = plan_pool(chosen["pool"], config, pools)
    tokens = plan_tokens(inventory, tokenizer)
    subset = _subset(arm, arms, seed, config, pools, inventory, tokens)
    recipe, weights = check_recipe(chosen["ssl"], settings.tokenizer.vocab_size, field_of(config, arm, "ssl"))
    from strata.ssl.text.config import UNKEYED_TEXT  # imports the trainer's room

    device = {"device": config["runner"]["device"]}
    pretrain = Stage(
        "pretrain_text",
        {"ssl": plain(leave_out(asdict(recipe), UNKEYED_TEXT)), "seed": seed},
        {"tokens": tokens, "tokenizer": tokenizer, "subset": subset},
        {**device, "progress": False, "ssl": {name: getattr(recipe, name) for name in UNKEYED_TEXT}},
        label,
        work=recipe.steps * recipe.step_tokens,
        memory=weights * 16.0 + recipe.step_tokens * 4e3,
    )
    scores: dict[tuple[str, str], Stage] = {}
    inputs = {"pool": inventory, "tokens": tokens, "subset": subset}
    runtime = {"pools": {"pool": chosen["pool"]}}
    scores["data", "profile"] = Stage(
        "profile", {"columns": settings.columns}, inputs, runtime, label, work=tokens.work
    )
    scores |= _held_out(pretrain, settings, config, tokenizer, pools, label)
    if settings.tasks.names:
        limit = settings.tasks.limit or 2000
        scores["tasks", "lm"] = Stage(
            "lm_tasks",
            asdict(settings.tasks),
            {"model": pretrain},
            device,
            label,
            work=limit * len(settings.tasks.names),
        )
    for name, benchmark in config["benchmarks"].items():
        features = _features(name, benchmark, pretrain, config, label)
        for protocol, options in config["protocols"].items():
            both = {"train": features, "test": features}  # one folder holds both splits
            scores[name, protocol] = plan_score(name, protocol, options, both, config, label)
    return Run(arm, seed, subset, pretrain, scores)


def _subset(
    arm: str,
    arms: Mapping[str, Mapping[str, Any]],
    seed: int,
    config: Mapping[str, Any],
    pools: Pools,
    inventory: Stage,
    tokens: Stage,
) -> Stage:
    """The subset of an arm, or a random one of as many tokens as another arm's."""
    other = arms[arm]["match_tokens"]
    if other is None:
        return plan_sample(arm, arms[arm], seed, config, pools)
    field = f"arms.{arm}.match_tokens"
    if other not in arms or arms[other]["match_tokens"] is not None:
        raise ConfigError(field, f"{other!r} is no arm with documents of its own", f"use one of {', '.join(arms)}")
    like = plan_sample(other, arms[other], seed, config, pools)
    if like.inputs["pool"].key != inventory.key:
        raise ConfigError(field, f"{other!r} has another pool", "match an arm of the same pool")
    runtime = {"pools": {"pool": arms[arm]["pool"]}, "labelled": like.runtime["labelled"]}
    inputs = {"pool": inventory, "tokens": tokens, "like": like}
    return Stage("sample_tokens", {"seed": seed}, inputs, runtime, f"{arm}, seed {seed}", work=tokens.work)


def _held_out(
    model: Stage, settings: TextSettings, config: Mapping[str, Any], tokenizer: Stage, pools: Pools, label: str
) -> dict[tuple[str, str], Stage]:
    told, scores = settings.held_out, {}
    for name, pool_config in told.pools.items():
        inventory = _raw(pool_config, f"text.held_out.pools.{name}", config, pools)
        tokens = plan_tokens(inventory, tokenizer)
        keyed = {"name": name, "per_source": told.per_source, "seed": told.seed}
        runtime = {"pools": {"pool": pool_config}, "device": config["runner"]["device"]}
        inputs = {"model": model, "pool": inventory, "tokens": tokens}
        scores[name, "perplexity"] = Stage(
            "perplexity", keyed, inputs, runtime, f"{name}, {label}", work=inventory.work
        )
    return scores


def _features(name: str, benchmark: Mapping[str, Any], model: Stage, config: Mapping[str, Any], label: str) -> Stage:
    train, test, n = _splits(canonical_json(benchmark), name)
    keyed = {"train": train, "test": test, "dtype": config["embed"]["dtype"]}
    runtime = {"benchmark": benchmark, "device": config["runner"]["device"]}
    return Stage("text_features", keyed, {"model": model}, runtime, f"{name}, {label}", work=n, memory=n * 4096.0)


@cache
def _splits(benchmark_json: str, name: str) -> tuple[str, str, int]:
    """Fingerprints of both splits of a benchmark, and how many texts they hold."""
    built = build(json.loads(benchmark_json), f"benchmarks.{name}")
    for split, pool in (("train", built.train), ("test", built.test)):
        if kind_of(pool) != "text":
            raise ConfigError(f"benchmarks.{name}.{split}", f"{pool.name!r} holds {kind_of(pool)}", "use texts")
    return built.train.fingerprint, built.test.fingerprint, len(built.train) + len(built.test)


@cache
def _task_digest(name: str) -> str:
    return digest_file(resolve_data_path(f"lm_eval/{task_of(name).file}", "decontaminate.against"))
