"""A stage: one step of an experiment, named by the content that determines its result.

The key is a hash of the stage's kind and version, the part of the config that changes the result, and the keys of its
inputs. Two arms that share an embedding share its stage; changing a setting changes the keys of what depends on it and
of nothing else. ``runtime`` holds what a stage needs to know but what is not meant to change its result: paths, and
how it is computed (device, threads, batches of inference), which moves float results in the last bits only.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

KINDS = (
    "pool", "bands", "decontaminate", "tokenizer", "tokenize", "embed", "cluster", "codebook", "extend", "sample",
    "sample_tokens", "profile", "update", "pretrain", "pretrain_text", "features", "text_features", "evaluate", "perplexity",
    "lm_tasks", "measure",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stage:
    """A node of the experiment's graph.

    Attributes:
        kind: one of KINDS; the module ``strata.experiments.stages.<kind>`` runs it.
        config: JSON-able; everything in it is part of the key.
        inputs: role -> the stage that makes that input.
        runtime: JSON-able; not part of the key.
        label: what a person calls it, e.g. "hierarchical, seed 0".
        work: amount of work in the kind's own unit (items, row-products, images), for predictions of time.
        memory: predicted peak working set in bytes.
    """

    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    work: float = 0.0
    memory: float = 0.0

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the result."""
        described = {
            "kind": self.kind,
            "version": stage_module(self.kind).VERSION,
            "config": self.config,
            "inputs": {role: stage.key for role, stage in self.inputs.items()},
        }
        return hashlib.sha256(canonical_json(described).encode()).hexdigest()[:16]

    def walk(self) -> Iterator["Stage"]:
        """This stage after everything that it depends on."""
        for stage in self.inputs.values():
            yield from stage.walk()
        yield self


@dataclass
class Task:
    """What a stage module's ``run`` gets: resolved folders instead of stages."""

    kind: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, Path]
    input_keys: dict[str, str]
    runtime: dict[str, Any]
    out: Path


def unique(stages: Iterable[Stage]) -> list[Stage]:
    """Every stage of the graphs once, inputs before what uses them."""
    seen: dict[str, Stage] = {}
    for root in stages:
        for stage in root.walk():
            seen.setdefault(stage.key, stage)
    return list(seen.values())


def stage_module(kind: str) -> ModuleType:
    """The module of a kind of stage: ``VERSION`` (raised when its meaning changes) and ``run(task, on_metrics)``."""
    return importlib.import_module(f"strata.experiments.stages.{kind}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
