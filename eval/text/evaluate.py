"""All benchmarks of a language model: choices and clozes by our scorer or the harness, generation by the harness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.eval.accuracy import top1
from strata.eval.scores import Score, write_scores
from strata.eval.text.harness import run_harness
from strata.eval.text.model import LanguageModel
from strata.eval.text.scorer import score_task
from strata.eval.text.tasks import TASKS, Task, read_task, task_of

VERSION = 1
SCORERS = ("own", "lm_eval")
_EXAMPLES = 5  # shots of what is generated in the paper


def evaluate_tasks(
    model: LanguageModel,
    names: Sequence[str],
    out: str | Path,
    *,
    limit: int | None = None,
    shots: int = _EXAMPLES,
    seed: int = 0,
    scorer: str = "own",
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> list[Score]:
    """Score a model on tasks and write a "scores" artifact.

    Choices and clozes are zero-shot, as in the paper, and generation has ``shots`` examples. Scores: ``acc`` and
    ``acc_norm``, of a cloze ``acc`` and ``perplexity``, of generation ``exact_match``; protocol "lm". A name that is no
    local task is handed to the harness (which fetches its data).

    Args:
        model: see ``load_language_model``.
        names: tasks.
        out: the folder to make.
        limit: items of each task, drawn with ``seed`` and the same for every model; None: all.
        shots: examples before an item that is answered by generation.
        scorer: "own", or "lm_eval" for all.
        key, inputs, config: see ``create_artifact``.

    Raises:
        ConfigError: an unknown task or scorer. MissingExtraError: the harness is needed and not installed.
    """
    if scorer not in SCORERS:
        raise ConfigError("text.tasks.scorer", f"{scorer!r} is unknown", f"use one of {', '.join(SCORERS)}")
    scores: list[Score] = []
    columns: dict[str, list[Any]] = {"task": [], "row": [], "label": [], "prediction": [], "correct": []}
    harness = [name for name in names if name not in TASKS or TASKS[name].kind == "generate" or scorer == "lm_eval"]
    for name in names:
        if name in harness:
            continue
        task = task_of(name)
        found = score_task(model, task, read_task(name, limit, seed))
        scores += _own_scores(name, task, found)
        _keep(columns, name, found["label"], found["prediction"], found["correct"])
    for few in (True, False):
        group = [name for name in harness if (name in TASKS and TASKS[name].kind == "generate") == few]
        given = [f"local:{name}" if name in TASKS else name for name in group]
        results = run_harness(model, given, limit=limit, shots=shots if few else 0, seed=seed) if group else {}
        for name, metrics in results.items():
            samples = metrics.pop("samples")
            scores += _harness_scores(name, metrics, len(samples))
            headline = next(metric for metric in metrics if metric != "alias")
            right = np.array([float(sample.get(headline, 0)) == 1.0 for sample in samples])
            _keep(columns, name, np.zeros(len(right), int), np.where(right, 0, -1), right)
    arrays = {name: np.array(values) for name, values in columns.items()}
    arrays["id"] = np.array([f"{t}:{r}" for t, r in zip(columns["task"], columns["row"], strict=True)])
    write_scores(out, scores, arrays, key=key, inputs=inputs, config=config, meta={"model": model.name})
    return scores


def _keep(columns: dict[str, list[Any]], name: str, label: Any, prediction: Any, correct: Any) -> None:
    columns["task"] += [name] * len(correct)
    columns["row"] += list(range(len(correct)))
    for key, values in (("label", label), ("prediction", prediction), ("correct", correct)):
        columns[key] += values.tolist()


def _own_scores(name: str, task: Task, found: dict[str, np.ndarray]) -> list[Score]:
    scores = [_accuracy(name, "acc", found["correct"], "own")]
    if "correct_norm" in found:
        scores.append(_accuracy(name, "acc_norm", found["correct_norm"], "own"))
    if "nats" in found:
        mean = float(found["nats"].mean())
        half = 1.96 * float(found["nats"].std(ddof=1)) / len(found["nats"]) ** 0.5
        ends = [float(np.exp(mean + sign * half)) for sign in (0, -1, 1)]
        scores.append(Score("lm", VERSION, name, "perplexity", ends[0], len(found["nats"]), ends[1], ends[2]))
    return scores


def _accuracy(name: str, metric: str, correct: np.ndarray, scorer: str) -> Score:
    e = top1(correct)
    return Score("lm", VERSION, name, metric, e.value, e.n, e.low, e.high, {"scorer": scorer})


def _harness_scores(name: str, metrics: Mapping[str, Any], n: int) -> list[Score]:
    scores = []
    for metric, value in metrics.items():
        if not isinstance(value, int | float):
            continue
        if metric in ("acc", "acc_norm", "exact_match"):
            right = np.arange(n) < round(value * n)  # the interval depends on the count alone
            scores.append(_accuracy(name, metric, right, "lm_eval"))
        else:
            scores.append(Score("lm", VERSION, name, metric, float(value), n, float(value), float(value)))
    return scores
