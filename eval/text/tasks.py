"""The benchmarks of the paper's Table 6 and their kin, read from local files, with lm-evaluation-harness's own prompts.

One definition serves both scorers: ours (``scorer.py``) and the harness (``harness.py``). A task is told apart from the
harness's own of the same data by its name: ``local_<task>``.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import resolve_data_path

Doc = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Attributes:
        file: under ``lm_eval/`` of the data folder, JSON Lines.
        kind: "choice" (the likeliest ending is the answer), "cloze" (the ending must be what greedy decoding gives) or
            "generate" (greedy decoding must give one of the answers).
        contexts: of each choice; one for all where it is a single one.
        endings: of each choice, or of the cloze; the delimiter before them is a space.
        gold: number of the right choice.
        metric: headline, of ``acc`` and (choices of different lengths) ``acc_norm``, or ``exact_match``.
        delimiter: between context and ending.
        answers: of "generate": what counts as right.
        ignored: of "generate": a regular expression whose matches are removed before comparison.
        description: of "generate": stands before the examples.
        separator: of "generate": between examples.
        texts: what decontamination looks for.
    """

    file: str
    kind: Literal["choice", "cloze", "generate"]
    contexts: Callable[[Doc], list[str]]
    endings: Callable[[Doc], list[str]]
    gold: Callable[[Doc], int]
    metric: str = "acc"
    delimiter: str = " "
    answers: Callable[[Doc], list[str]] = lambda doc: []
    ignored: str = ""
    description: str = ""
    separator: str = "\n\n"
    texts: Callable[[Doc], list[str]] = lambda doc: [" ".join([doc["question"], each]) for each in doc["choices"]]


def _question(doc: Doc) -> list[str]:
    return [f"Question: {doc['question']}\nAnswer:"]


def _choices(doc: Doc) -> list[str]:
    return list(doc["choices"])


def _label(doc: Doc) -> int:
    return int(doc["label"])


def _gap(doc: Doc) -> list[str]:
    """WinoGrande: the sentence up to the gap, filled with each option (arXiv:1806.02847, partial scoring)."""
    return [doc["question"].split("_")[0] + option for option in doc["choices"]]


def _after_gap(doc: Doc) -> list[str]:
    return [doc["question"].split("_", 1)[1].strip()] * 2


def _answers(doc: Doc) -> list[str]:
    return list(dict.fromkeys([*([doc["answer"]] if "answer" in doc else []), *doc["answers"]]))


def _only_question(doc: Doc) -> list[str]:
    return [doc["question"]]


_QA: dict[str, Any] = {
    "kind": "generate",
    "gold": lambda doc: 0,
    "metric": "exact_match",
    "answers": _answers,
    "texts": _only_question,
}
TASKS: dict[str, Task] = {
    "arc_challenge": Task("arc_challenge_test.jsonl.gz", "choice", _question, _choices, _label, "acc_norm"),
    "arc_easy": Task("arc_easy_test.jsonl.gz", "choice", _question, _choices, _label),
    "hellaswag": Task("hellaswag_val.jsonl.gz", "choice", _only_question, _choices, _label, "acc_norm"),
    "piqa": Task("piqa_val.jsonl.gz", "choice", _question, _choices, _label),
    "siqa": Task("siqa_val.jsonl.gz", "choice", lambda d: [f"Q: {d['question']}\nA:"], _choices, _label),
    "openbookqa": Task("openbookqa_test.jsonl.gz", "choice", _only_question, _choices, _label, "acc_norm"),
    # without its passage: a question of knowledge, not of reading
    "boolq_nopassage": Task(
        "boolq_nopassage_val.jsonl.gz", "choice", _question, lambda d: ["no", "yes"], _label,
        texts=_only_question,
    ),
    "winogrande": Task("winogrande_val.jsonl.gz", "choice", _gap, _after_gap, _label),
    "blimp": Task(
        "blimp.jsonl.gz", "choice", lambda d: [""], lambda d: [d["good"], d["bad"]], lambda d: 0,
        delimiter="", texts=lambda d: [d["good"], d["bad"]],
    ),
    "lambada": Task(
        "lambada_test.jsonl.gz", "cloze", lambda d: [d["context"]], lambda d: [d["target"]], lambda d: 0,
        texts=lambda d: [f"{d['context']} {d['target']}"],
    ),
    "nq_open": Task(
        "nq_open_dev.jsonl.gz", contexts=lambda d: [f"Q: {d['question']}?\nA:"], endings=lambda d: _answers(d)[:1],
        ignored=r"\b(?:The |the |An |A |The |a |an )", description="Answer these questions:\n\n", separator="\n", **_QA,
    ),
    "triviaqa": Task(
        "triviaqa_1k.jsonl.gz", contexts=lambda d: [f"Question: {d['question'].rstrip('?')}?\nAnswer:"],
        endings=lambda d: _answers(d)[:1], **_QA,
    ),
}  # fmt: skip
PAPER_TASKS = ("arc_challenge", "hellaswag", "nq_open", "triviaqa", "piqa", "siqa")


def task_of(name: str) -> Task:
    """A task by its name. Raises ConfigError for another one."""
    if name not in TASKS:
        raise ConfigError("text.tasks.names", f"{name!r} is unknown", f"use some of {', '.join(TASKS)}")
    return TASKS[name]


def read_task(name: str, limit: int | None = None, seed: int = 0) -> list[Doc]:
    """The items of a task, or ``limit`` random ones in the file's order: the same ones for every model.

    Raises:
        ConfigError: unknown task, or its file is not there. DataError: a line is no item; it is named.
    """
    task = task_of(name)
    path = resolve_data_path(f"lm_eval/{task.file}", "text.tasks")
    docs: list[Doc] = []
    with gzip.open(path, "rt") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                doc = json.loads(line)
                task.contexts(doc), task.endings(doc), task.gold(doc)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise DataError(
                    f"line {number} of {path.name} is no item of {name} ({error!r}); fetch it again"
                ) from error
            docs.append(doc)
    if limit is not None and limit < len(docs):
        rows = np.sort(np.random.default_rng(seed).choice(len(docs), limit, replace=False))
        docs = [docs[row] for row in rows.tolist()]
    return docs


def split_shots(docs: list[Doc], n: int, pool: int = 50) -> tuple[list[Doc], list[Doc]]:
    """(examples to draw from, items to score): the files have one split, so the first items are taken off it."""
    return (docs[:pool], docs[pool:]) if n else ([], docs)


def contamination_texts(name: str) -> list[str]:
    """What must not stand in a training pool, for every item of a task."""
    task = task_of(name)
    return [text for doc in read_task(name) for text in task.texts(doc)]
