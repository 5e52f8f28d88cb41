"""Stage ``profile``: what a subset of documents is made of, in documents and in tokens."""

from typing import Any

import numpy as np

from strata.curation.artifact import create_artifact, write_json
from strata.curation.errors import ConfigError
from strata.curation.subset import read_subset
from strata.curation.text.tokens import TokenStore
from strata.experiments.stage import Task
from strata.experiments.stages.pool import open_pool

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Write ``profile.json``: documents, tokens, tokens per document, and for each column its effective number of values
    (exponential of the entropy) by documents and by tokens, with the shares."""
    pool, store = open_pool(task, "pool"), TokenStore.open(task.inputs["tokens"])
    chosen = read_subset(task.inputs["subset"])
    tokens = store.lengths[chosen.rows] * chosen.repeats
    found: dict[str, Any] = {
        "documents": len(chosen),
        "tokens": int(tokens.sum()),
        "tokens_per_document": float(tokens.sum() / len(chosen)),
    }
    shares: dict[str, Any] = {}
    for column in task.config["columns"]:
        values = _column(pool, column)[chosen.rows]
        names, codes = np.unique(values, return_inverse=True)
        by_documents = np.bincount(codes, weights=chosen.repeats, minlength=len(names))
        by_tokens = np.bincount(codes, weights=tokens, minlength=len(names))
        found[f"effective_{column}s"] = _effective(by_documents)
        found[f"effective_{column}s_by_tokens"] = _effective(by_tokens)
        pairs = zip(names.tolist(), by_documents / by_documents.sum(), by_tokens / by_tokens.sum(), strict=True)
        shares[column] = {name: [float(d), float(t)] for name, d, t in pairs}
    with create_artifact(task.out, "profile", key=task.key, inputs=task.input_keys, config=task.config) as draft:
        write_json(draft.path / "profile.json", {**found, "shares": shares})
        draft.meta.update(found)


def _column(pool: Any, name: str) -> np.ndarray:
    """A column as text, [n]; "source+topic" is both together."""
    read = getattr(pool, "column", None)
    if read is None:
        raise ConfigError("text.columns", f"pool {pool.name!r} has no columns", "use [] for it")
    parts = [[str(value) for value in read(part).tolist()] for part in name.split("+")]
    return np.array(["/".join(values) for values in zip(*parts, strict=True)])


def _effective(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-(p * np.log(p)).sum()))
