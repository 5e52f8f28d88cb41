"""Log-likelihoods of endings in few passes: a context is read once for all its endings, side by side under one mask.

Numbers are those of lm-evaluation-harness (tested), which reads the context again with every ending and computes logits for
all places. The gain is what it costs to run eight benchmarks on many small models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from strata.curation.errors import DataError
from strata.curation.text.tokenizer import one_thread_tokenizer
from strata.eval.text.model import LanguageModel
from strata.eval.text.tasks import Doc, Task


@dataclass(frozen=True)
class Answer:
    """Of one ending: sum of log-probabilities in nats, and whether greedy decoding gives it."""

    log_likelihood: float
    greedy: bool


@dataclass
class _Group:
    """A context and its endings as token ids; ``places`` says where each answer goes."""

    context: list[int]
    endings: list[list[int]]
    places: list[int]

    @property
    def length(self) -> int:
        return len(self.context) + sum(len(ending) - 1 for ending in self.endings)


def log_likelihoods(model: LanguageModel, pairs: Sequence[tuple[str, str]], batch_tokens: int = 8192) -> list[Answer]:
    """Log-likelihood of each ending after its context, the ending as the tokenizer cuts it there.

    An empty context stands for the first special token, as in lm-evaluation-harness; other contexts begin with what the
    tokenizer puts first. What is longer than the network takes loses its beginning.

    Args:
        model: see ``load_language_model``.
        pairs: (context, ending).
        batch_tokens: places of a padded batch, at most.
    """
    answers: list[Answer | None] = [None] * len(pairs)
    groups = sorted(_groups(model, pairs), key=lambda group: -group.length)
    start = 0
    while start < len(groups):
        count = max(1, batch_tokens // groups[start].length)
        for place, answer in _score(model, groups[start : start + count]):
            answers[place] = answer
        start += count
    return [answer for answer in answers if answer is not None]


def score_task(
    model: LanguageModel, task: Task, docs: Sequence[Doc], batch_tokens: int = 8192
) -> dict[str, np.ndarray]:
    """Columns over items, [n]: ``correct`` (of ``acc``), ``prediction``, ``label``, and ``correct_norm`` or ``nats``.

    ``acc_norm`` divides a log-likelihood by the number of characters of its ending (lm-evaluation-harness).
    """
    pairs, counts = [], []
    for doc in docs:
        contexts, endings = task.contexts(doc), task.endings(doc)
        contexts = contexts * len(endings) if len(contexts) == 1 else contexts
        pairs += [(context, task.delimiter + ending) for context, ending in zip(contexts, endings, strict=True)]
        counts.append(len(endings))
    found = log_likelihoods(model, pairs, batch_tokens)
    gold = np.array([task.gold(doc) for doc in docs])
    if task.kind == "cloze":
        greedy = np.array([answer.greedy for answer in found])
        nats = np.array([-answer.log_likelihood for answer in found])
        return {"label": gold, "prediction": np.where(greedy, 0, -1), "correct": greedy, "nats": nats}
    columns: dict[str, list[int]] = {"prediction": [], "norm": []}
    start = 0
    for doc, count in zip(docs, counts, strict=True):
        values = np.array([answer.log_likelihood for answer in found[start : start + count]])
        lengths = np.array([max(1, len(ending)) for ending in task.endings(doc)], np.float64)
        columns["prediction"].append(int(values.argmax()))
        columns["norm"].append(int((values / lengths).argmax()))
        start += count
    best, norm = (np.array(columns[name]) for name in ("prediction", "norm"))
    return {"label": gold, "prediction": best, "correct": best == gold, "correct_norm": norm == gold}


def _groups(model: LanguageModel, pairs: Sequence[tuple[str, str]]) -> Iterator[_Group]:
    shared: dict[str, _Group] = {}
    for place, (context, ending) in enumerate(pairs):
        head, tail = _encode(model, context, ending)
        if not tail:
            raise DataError(f"the ending {ending!r} has no tokens; remove the item")
        group = shared.get(context)
        cut = len(head) + len(tail) > model.max_length + 1
        if cut:  # its own beginning is lost, so it cannot share one
            whole = (head + tail)[-(model.max_length + 1) :]
            yield _Group(whole[: len(whole) - len(tail)], [tail], [place])
        elif group is not None and group.context == head and group.length + len(tail) - 1 <= 2 * model.max_length:
            group.endings.append(tail)
            group.places.append(place)
        else:
            if group is not None:
                yield shared.pop(context)
            shared[context] = _Group(head, [tail], [place])
    yield from shared.values()


def _encode(model: LanguageModel, context: str, ending: str) -> tuple[list[int], list[int]]:
    """As lm-evaluation-harness: spaces at the end of a context belong to the ending; both are encoded together."""
    with one_thread_tokenizer():
        if not context:
            return [model.first], model.tokenizer.encode(ending, add_special_tokens=False)
        stripped = context.rstrip()
        whole = model.tokenizer.encode(stripped + context[len(stripped) :] + ending)
        head = model.tokenizer.encode(stripped)
    return head, whole[len(head) :]


def _score(model: LanguageModel, groups: Sequence[_Group]) -> Iterator[tuple[int, Answer]]:
    """One pass: row i holds the context of group i and all its endings; an ending sees the context and itself."""
    width = max(group.length for group in groups)
    tokens, places = np.zeros((len(groups), width), np.int64), np.zeros((len(groups), width), np.int64)
    part = np.full((len(groups), width), -1)  # 0: context, j + 1: ending j, -1: padding
    asked: list[tuple[int, int, int, int]] = []  # row, place that predicts, target, number of the answer
    for line, group in enumerate(groups):
        n = len(group.context)
        tokens[line, :n], places[line, :n], part[line, :n] = group.context, np.arange(n), 0
        start = n
        for j, (ending, place) in enumerate(zip(group.endings, group.places, strict=True)):
            stop = start + len(ending) - 1
            tokens[line, start:stop], part[line, start:stop] = ending[:-1], j + 1
            places[line, start:stop] = np.arange(n, n + len(ending) - 1)
            asked += [
                (line, at, target, place) for at, target in zip([n - 1, *range(start, stop)], ending, strict=True)
            ]
            start = stop
    sums, greedy = _run(model, tokens, places, part, np.array(asked))
    for place in sorted(sums):
        yield place, Answer(sums[place], greedy[place])


@torch.inference_mode()
def _run(
    model: LanguageModel, tokens: np.ndarray, places: np.ndarray, part: np.ndarray, asked: np.ndarray
) -> tuple[dict[int, float], dict[int, bool]]:
    device = model.device
    parts = torch.from_numpy(part).to(device)
    width = tokens.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    sees = (parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None])  # padding sees padding: no empty row
    states: Any = model.module.base_model(
        input_ids=torch.from_numpy(tokens).to(device),
        position_ids=torch.from_numpy(places).to(device),
        attention_mask=(sees & causal)[:, None],
        use_cache=False,
    ).last_hidden_state
    line, at, target, answer = (torch.from_numpy(asked[:, i]).to(device) for i in range(4))
    logits = model.module.get_output_embeddings()(states[line, at]).float()
    picked = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0].double().cpu().numpy()
    right = (logits.argmax(dim=1) == target).cpu().numpy()
    sums: dict[int, float] = {}
    greedy: dict[int, bool] = {}
    for place, value, fits in zip(answer.tolist(), picked.tolist(), right.tolist(), strict=True):
        sums[place] = sums.get(place, 0.0) + value
        greedy[place] = greedy.get(place, True) and fits
    return sums, greedy
