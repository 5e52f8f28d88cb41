"""Perplexity and bits per byte of held-out documents, per source."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from strata.curation.errors import DataError
from strata.curation.pools.base import Pool
from strata.curation.text.tokens import TokenStore
from strata.eval.scores import Score, write_scores
from strata.eval.text.model import LanguageModel

VERSION = 1


def document_losses(
    model: LanguageModel, store: TokenStore, rows: Int[np.ndarray, " n"], batch_tokens: int = 8192
) -> Float[np.ndarray, " n"]:
    """Sum of the losses (nats) over each document's own tokens, [n]; the first is predicted from the first special token.

    A document longer than the network takes is cut into windows that follow one another without overlap, each reading
    the last token of the one before (as lm-evaluation-harness's rolling log-likelihood with a context of one token).
    """
    windows = []
    for place, row in enumerate(np.asarray(rows).tolist()):
        ids = np.concatenate([[store.bos_id], store.document(row)]).astype(np.int64)
        for start in range(0, len(ids) - 1, model.max_length):
            windows.append((place, ids[start : start + model.max_length + 1]))
    windows.sort(key=lambda window: -len(window[1]))
    losses = np.zeros(len(rows))
    for batch in _batches(windows, batch_tokens):
        width = max(len(ids) for _, ids in batch) - 1
        tokens = np.zeros((len(batch), width), np.int64)
        targets = np.full((len(batch), width), -100)
        for line, (_, ids) in enumerate(batch):
            tokens[line, : len(ids) - 1], targets[line, : len(ids) - 1] = ids[:-1], ids[1:]
        with torch.inference_mode():
            logits = model.module(input_ids=torch.from_numpy(tokens).to(model.device), use_cache=False).logits
            found = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), torch.from_numpy(targets).flatten().to(model.device), reduction="none"
            )
        sums = found.view(targets.shape).sum(dim=1, dtype=torch.float64).cpu().numpy()
        np.add.at(losses, [place for place, _ in batch], sums)
    return losses


def perplexity(
    model: LanguageModel,
    pool: Pool,
    tokens: str | Path,
    out: str | Path,
    *,
    name: str,
    per_source: int | None = None,
    seed: int = 0,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> list[Score]:
    """Score held-out documents and write a "scores" artifact.

    For each source (the pool's label) and over all: ``bits_per_byte``, which does not depend on the tokenizer, and
    ``perplexity`` per token. "Over all" (benchmark ``name``) is the mean of bits per byte over sources, each source
    counting the same, and its perplexity the exponential of the mean loss per token over sources.

    Args:
        model: see ``load_language_model``.
        pool: the documents; ``tokens`` is the artifact made of it with the model's tokenizer.
        out: the folder to make.
        name: of the pool in the scores.
        per_source: at most so many documents of each source, drawn with ``seed``; None: all.
        key, inputs, config: see ``create_artifact``.

    Raises:
        DataError: pool and tokens do not belong together, or the tokens are not of the model's tokenizer.
    """
    store = TokenStore.open(tokens)
    if len(store) != len(pool):
        raise DataError(f"{tokens} holds {len(store)} documents and pool {pool.name!r} {len(pool)}; tokenize it again")
    if store.vocab_size != len(model.tokenizer):
        raise DataError(
            f"{tokens} has {store.vocab_size} kinds of tokens, the model {len(model.tokenizer)}; tokenize again"
        )
    labels = np.zeros(len(pool), np.int64) if pool.labels is None else np.asarray(pool.labels)
    names = pool.label_names or ["all"]
    rows = _drawn(labels, per_source, seed)
    losses, lengths, sizes = document_losses(model, store, rows), store.lengths[rows], store.n_bytes[rows]
    scores, means = [], []
    for source in sorted(set(labels[rows].tolist())):
        here = labels[rows] == source
        said = f"{name}/{names[source] if source >= 0 else 'none'}"
        bits = _ratio(losses[here] / np.log(2), sizes[here])
        loss = _ratio(losses[here], lengths[here])
        means.append((bits, loss))
        scores += _scores(said, bits, loss, int(here.sum()))
    over = [(float(np.mean([m[i][0] for m in means])), _joint([m[i][1] for m in means])) for i in (0, 1)]
    scores = _scores(name, over[0], over[1], len(rows)) + scores
    ids = pool.ids
    predictions = {
        "row": rows,
        "id": [ids[row] for row in rows.tolist()],
        "label": labels[rows],
        "prediction": losses,  # nats
        "correct": np.ones(len(rows), bool),  # of no meaning for a loss; every table of predictions has the column
        "tokens": lengths,
        "bytes": sizes,
    }
    write_scores(out, scores, predictions, key=key, inputs=inputs, config=config, meta={"model": model.name})
    return scores


def _drawn(labels: Int[np.ndarray, " n"], most: int | None, seed: int) -> Int[np.ndarray, " m"]:
    if most is None:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(labels == label))[:most] for label in np.unique(labels)]
    return np.sort(np.concatenate(kept))


def _ratio(top: Float[np.ndarray, " n"], bottom: Int[np.ndarray, " n"]) -> tuple[float, float]:
    """sum(top) / sum(bottom) over documents, and the half-width of its 95 % interval (delta method)."""
    value = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return value, 0.0
    rest = top - value * bottom
    return value, float(1.96 * np.sqrt(len(top) * rest.var(ddof=1)) / bottom.sum())


def _joint(halves: list[float]) -> float:
    return float(np.sqrt(np.sum(np.square(halves))) / len(halves))


def _scores(name: str, bits: tuple[float, float], loss: tuple[float, float], n: int) -> list[Score]:
    low, high = bits[0] - bits[1], bits[0] + bits[1]
    ends = [float(np.exp(loss[0] + sign * loss[1])) for sign in (0, -1, 1)]
    return [
        Score("perplexity", VERSION, name, "bits_per_byte", bits[0], n, low, high),
        Score("perplexity", VERSION, name, "perplexity", ends[0], n, ends[1], ends[2]),
    ]


def _batches(windows: list[Any], most: int) -> Iterator[list[Any]]:
    """Windows of falling length, cut so that none of the padded batches has more than ``most`` tokens."""
    start = 0
    while start < len(windows):
        count = max(1, most // len(windows[start][1]))
        yield windows[start : start + count]
        start += count
