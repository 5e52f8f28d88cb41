"""The stages that score a backbone: features of each split once, then every protocol on every benchmark of its task."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.eval.extract import check_patches
from strata.eval.protocols.base import Protocol
from strata.experiments.comparison.columns import columns_of
from strata.experiments.identity import identity
from strata.experiments.settings.build import build, placed
from strata.experiments.stage import Stage, canonical_json


def plan_probes(
    config: Mapping[str, Any], inputs: dict[str, Stage], label: str, **source: Any
) -> dict[tuple[str, str], Stage]:
    """Scores by (benchmark, protocol): every protocol on the benchmarks of its task.

    Args:
        config: of a command, with ``benchmarks`` and ``protocols``.
        inputs: the stage that makes the backbone, as ``backbone``; empty for one that is there.
        label: of the backbone, for people.
        source: of a backbone that is there: ``key`` (goes into the stages' keys) and ``runtime``.
    """
    scores, wanted = {}, wanted_scores(config)
    for name, benchmark in config["benchmarks"].items():
        protocols = fitting(config["protocols"], benchmark, name, config.get("only"))
        protocols = {
            protocol: built for protocol, built in protocols.items() if not wanted or (name, built.id) in wanted
        }
        patches = max((protocol.patches for protocol in protocols.values()), default=0)
        features = plan_features(name, benchmark, inputs, config, label, patches, **source)
        for protocol in protocols:
            scores[name, protocol] = plan_score(name, protocol, config["protocols"][protocol], features, config, label)
    return scores


def wanted_scores(config: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(benchmark, id of the protocol) of the columns that ``table.columns`` names; empty: all that there are."""
    columns = columns_of(config) if (config.get("table") or {}).get("columns") else {}
    return {(group, metric.split("-v")[0]) for column in columns.values() for group, metric in column.parts}


def plan_features(
    name: str,
    benchmark_config: Mapping[str, Any],
    inputs: dict[str, Stage],
    config: Mapping[str, Any],
    label: str,
    patches: int = 0,
    key: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> dict[str, Stage]:
    """Features of each split of a benchmark, keyed by the content of its pool: benchmarks that share one share them."""
    benchmark = open_benchmark(benchmark_config, name)
    loading = {"processes": config.get("processes", 1)}
    loading |= {name: config["embed"][name] for name in ("batch_size", "num_workers")}
    stages = {}
    for split, pool in benchmark.splits.items():
        keyed = {"pool": pool.fingerprint, "dtype": config["embed"]["dtype"], **(key or {})}
        stages[split] = Stage(
            "features",
            keyed | ({"patches": patches} if patches else {}),
            inputs,
            {
                "device": config["runner"]["device"],
                "benchmark": benchmark_config,
                "split": split,
                **loading,
                **(runtime or {}),
            },
            f"{name} {split}, {label}",
            work=len(pool),
            memory=len(pool) * 4.0 * 1024,
        )
    return stages


def plan_score(
    benchmark: str,
    protocol: str,
    options: Mapping[str, Any],
    features: Mapping[str, Stage],
    config: Mapping[str, Any],
    label: str,
) -> Stage:
    """One protocol on one benchmark. Its version is part of the key: when it moves, the score is made again."""
    built: Protocol = build(options, f"protocols.{protocol}")
    return Stage(
        "evaluate",
        {"protocol": identity(options), "version": built.full_version, "benchmark": benchmark},
        dict(features),
        {"device": config["runner"]["device"]},
        f"{protocol} on {benchmark}, {label}",
        work=sum(stage.work for stage in features.values()),
        memory=max(stage.memory for stage in features.values()),
    )


def fitting(
    protocols: Mapping[str, Any],
    benchmark_config: Mapping[str, Any],
    name: str,
    only: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Protocol]:
    """The protocols that score such a benchmark, built.

    Args:
        protocols: by name.
        benchmark_config: of one benchmark.
        name: of it.
        only: protocol -> the only benchmarks that it is wanted on.

    Raises:
        ConfigError: there is none.
    """
    benchmark = open_benchmark(benchmark_config, name)
    built: dict[str, Protocol] = {
        protocol: build(options, f"protocols.{protocol}") for protocol, options in protocols.items()
    }
    wanted = only or {}
    found = {
        protocol: value
        for protocol, value in built.items()
        if fits(value, benchmark) and name in wanted.get(protocol, [name])
    }
    if protocols and not found:
        lacks = sorted({need for value in built.values() for need in value.needs if not getattr(benchmark, need, None)})
        problem = f"it is a benchmark of {benchmark.task}{''.join(f' without {need}' for need in lacks)}"
        problem += f", and none of the protocols {', '.join(protocols)} is for that"
        raise ConfigError(
            f"benchmarks.{name}", problem, "add one that is (strata eval --help lists them), or leave it out"
        )
    return found


def measured_on(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Benchmark -> the metrics that its protocols give, as tables call them: "PROTOCOL-vVERSION METRIC"."""
    found = {}
    for name, benchmark in config["benchmarks"].items():
        built = fitting(config["protocols"], benchmark, name, config.get("only")).values()
        splits = open_benchmark(benchmark, name).splits
        found[name] = [f"{each.id}-v{each.version} {metric}" for each in built for metric in each.metrics_of(splits)]
    return found


def fits(protocol: Protocol, benchmark: Any) -> bool:
    """Whether a benchmark is of the protocol's task, and has what that reads (shifted test sets, groups)."""
    return benchmark.task in protocol.tasks and all(getattr(benchmark, field, None) for field in protocol.needs)


def check_probes(config: Mapping[str, Any], backbone: str, n_blocks: int, has_patches: bool) -> None:
    """Raise a ConfigError if a protocol does not fit a benchmark's training split, or a backbone of so many probed blocks."""
    for name, benchmark_config in config["benchmarks"].items():
        benchmark = open_benchmark(benchmark_config, name)
        for protocol, built in fitting(config["protocols"], benchmark_config, name, config.get("only")).items():
            train = benchmark.splits.get("train")
            labels = np.empty(0, np.int64) if train is None or train.labels is None else np.asarray(train.labels)
            try:
                if not getattr(train, "declared", False):  # labels that are not here are checked when they are
                    built.check(labels, n_blocks)
                check_patches(backbone, built.patches, n_blocks, has_patches)
            except ConfigError as error:
                found = placed(error, f"protocols.{protocol}")
                assert isinstance(found, ConfigError)
                problem = f"{found.problem} (benchmark {name}, protocol {protocol})"
                raise ConfigError(found.field, problem, found.fix) from None


def open_benchmark(config: Mapping[str, Any], name: str) -> Any:
    """The benchmark of a config; each config is opened once."""
    key = canonical_json(config)
    if key not in _opened:
        _opened[key] = build(json.loads(key), f"benchmarks.{name}")
    return _opened[key]


_opened: dict[str, Any] = {}
